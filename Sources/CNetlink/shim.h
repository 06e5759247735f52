// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sys/socket.h>

// Generated from kernel/spec/blk-cluster.yaml; no distribution has it yet.
#include "../../kernel/blk-cluster/uapi/linux/blk_cluster.h"
