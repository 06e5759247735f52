/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Since Linux 7.0, commit 2932ba8d9c99 ("slab: Introduce kmalloc_obj() and
 * family").
 */
#ifndef BLK_CLUSTER_COMPAT_KZALLOC_OBJ_H
#define BLK_CLUSTER_COMPAT_KZALLOC_OBJ_H

#include <linux/slab.h>

#ifndef kzalloc_obj
#define kzalloc_obj(object, gfp)	kzalloc(sizeof(object), gfp)
#endif

#endif
