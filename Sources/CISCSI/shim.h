// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stdint.h>
#include <sys/eventfd.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

// setns(2), which glibc declares only under _GNU_SOURCE. A session runs on a thread that has entered a network namespace.
extern int setns(int fd, int nstype);
static const int clio_clone_newnet = 0x40000000;
