# SPDX-License-Identifier: Apache-2.0
#
# The front door. On a fresh Debian 12 or 13, as root: `make demo` or `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build kernel kernel-debug kernel-broken kernel-newer kernel-rdma kernel-fcoe demo sim test test-all test-unit test-cluster \
	test-srp test-fcoe test-vhost test-in-flight test-kernel test-newer test-alerts deb test-deb test-machine test-release fuzz lint conformance faults \
	torture bench \
	lab-up lab-down clean

LAB := .build/release/clio-lab
PROMTOOL := .build/prometheus/usr/bin/promtool

# What the lab and the builds use of Debian; kernel/Makefile knows its own needs.
PACKAGES := \
	librados-dev libradospp-dev librbd-dev libkmod-dev libnl-3-dev libnl-genl-3-dev libiscsi-dev pkg-config \
	ceph-mon ceph-mgr ceph-osd ceph-common \
	busybox-static cpio curl dropbear-bin iproute2 iptables iputils-ping kmod openssh-client procps \
	dbus fence-agents fio libiscsi-bin multipath-tools open-iscsi sg3-utils targetcli-fb tmux

## demo: CAW through two gateways, stock kernel beside Clio (KEEP=1 keeps the cluster)
demo: kernel build
	$(LAB) demo $(if $(KEEP),--keep)

## test: what CI runs; CONTRIBUTING.md says which change asks for more
test: test-unit test-alerts test-kernel test-cluster

## test-all: that and all other tests, which take long or a machine with nothing else to do
test-all: test test-newer test-in-flight test-vhost test-fcoe test-srp test-deb test-machine test-release

## test-unit: pure parts, no cluster; about a minute
test-unit: setup
	swift test --skip ClusterTests
	$(MAKE) fuzz FUZZ_SECONDS=8

## fuzz: random bytes and commands for the reservation engine (FUZZ_SECONDS=600); goes on from what it has learnt
FUZZ_SECONDS ?= 600
fuzz: .build/fuzz/pr_state
	mkdir -p .build/fuzz/corpus
	.build/fuzz/pr_state -max_total_time=$(FUZZ_SECONDS) -max_len=1024 -verbosity=0 -print_funcs=0 \
		-print_final_stats=1 -artifact_prefix=.build/fuzz/ .build/fuzz/corpus 2>&1 | sed '/^#.* dictionary/,/^#.* End/d'

# The toolchain's own clang: it comes with libFuzzer and the sanitizers.
.build/fuzz/pr_state: Tests/Fuzz/pr_state.c $(wildcard kernel/blk-cluster/pr_state.* Sources/CPRState/include/*)
	mkdir -p $(@D)
	"$$(dirname "$$(readlink -f "$$(command -v swift)")")/clang" -std=gnu11 -g -O1 -Wall -Wextra -Wno-sign-compare \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -fuse-ld=lld \
		-ISources/CPRState/include Tests/Fuzz/pr_state.c kernel/blk-cluster/pr_state.c -o $@

## test-alerts: Prometheus' rules
test-alerts: $(PROMTOOL)
	cd packaging/prometheus && $(abspath $(PROMTOOL)) check rules clio.rules.yml
	cd packaging/prometheus && $(abspath $(PROMTOOL)) test rules clio.rules.test.yml

DOWNLOAD := apt-get download -q -o APT::Sandbox::User=root prometheus
# Unpacked, not installed: the package would start a server.
$(PROMTOOL):
	mkdir -p .build/prometheus
	cd .build/prometheus && { $(DOWNLOAD) || { apt-get update -q && $(DOWNLOAD); }; } && dpkg-deb -x prometheus_*.deb .
	touch $@

# The newest kernel that there is a series for.
NEWER := 7.3

## test-kernel: the series apply; checkpatch, sparse; of 6.12's, each prefix builds, and external modules
test-kernel: setup
	$(MAKE) -C kernel test
	$(MAKE) -C kernel check
	$(MAKE) -C kernel lint KERNEL=$(NEWER)

## test-newer: that of the newer kernel's, its other flavours, and torture on two processors (ROUNDS=200; some hours)
test-newer: kernel-newer build
	$(MAKE) -C kernel check KERNEL=$(NEWER)
	for flavour in stock debug smp; do $(MAKE) -C kernel um KERNEL=$(NEWER) FLAVOUR=$$flavour; done
	$(LAB) torture --kernel $(NEWER) --smp --rounds $(or $(ROUNDS),200) $(if $(SEED),--seed $(SEED))

## test-cluster: live, on a cluster inside this machine (FILTER= one suite or test)
test-cluster: kernel kernel-debug kernel-newer build .build/release/netlink-fuzz .build/release/ioc-pr $(PROMTOOL)
	@mkdir -p .build
	# The tests' own commands are built without optimisation; these are the ones that people get, on one processor.
	$(if $(FILTER),,$(LAB) bench --count 0 --luns 30)
	@swift test --no-parallel --filter 'ClusterTests$(if $(FILTER),.*$(FILTER))' 2>&1 | tee .build/test-cluster.log \
		|| { echo; echo "What failed:"; grep -A3 '^✘' .build/test-cluster.log; exit 1; } >&2

.build/release/netlink-fuzz: kernel/tests/netlink-fuzz.c kernel/blk-cluster/uapi/linux/blk_cluster.h | build
	$(CC) -O1 -Wall -Wextra -Werror -static -I kernel/blk-cluster/uapi -o $@ $<

.build/release/ioc-pr: kernel/tests/ioc-pr.c | build
	$(CC) -O1 -Wall -Wextra -Werror -static -o $@ $<

## test-srp: live, SRP over soft-RoCE; needs a machine that has nothing else to do
test-srp: kernel-rdma build
	CLIO_TEST_SRP=1 swift test --no-parallel --filter 'ClusterTests.FabricLiveTests/srp'

## test-fcoe: live, Fibre Channel over Ethernet, by the kernel's own target and initiator
test-fcoe: kernel-fcoe build
	CLIO_TEST_FCOE=1 swift test --no-parallel --filter 'ClusterTests.FabricLiveTests/fibreChannel'

## test-vhost: live, a virtual machine that boots from a LUN through vhost-scsi
test-vhost: kernel kernel-debug build .build/release/vm-boot
	@$(call install,qemu-system-x86)
	CLIO_TEST_VHOST=1 swift test --no-parallel --filter 'ClusterTests.VirtualMachineTests'

.build/release/vm-boot: Tests/Guest/boot.S | build
	as --32 -o $@.o $<
	ld -m elf_i386 --oformat binary -Ttext 0x7c00 -o $@ $@.o

## test-in-flight: live, whatever may escape a drain, a fencing or a reservation (some twenty minutes)
test-in-flight: kernel kernel-debug build .build/release/ioc-pr
	CLIO_TEST_IN_FLIGHT=1 swift test --no-parallel --filter 'ClusterTests.(InFlight|RegistryLive|RegistryDebug)Tests'

## sim: the relay's protocol against random faults (SEEDS= how many, SEED= one again, BREAK= a rule, MUTANTS=1 each rule)
sim:
	swift run -c release clio-sim $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000)) \
		$(if $(BREAK),--break $(BREAK)) $(if $(MUTANTS),--mutants)

## conformance: libiscsi's own suite, stock kernel beside Clio
conformance: kernel build
	$(LAB) conformance

## faults: break gateways while hosts write (ROUNDS= of each fault; SEED= repeats a run)
faults: kernel build
	$(LAB) faults --rounds $(or $(ROUNDS),1) $(if $(SEED),--seed $(SEED))

## torture: hosts and faults at random, three gateways (ROUNDS=; SEED= repeats a run; DEBUG=1 the debug kernel; BREAK= a rule)
torture: kernel $(if $(DEBUG),kernel-debug) $(if $(BREAK),kernel-broken) build
	$(LAB) torture --rounds $(or $(ROUNDS),10) $(if $(SEED),--seed $(SEED)) $(if $(DEBUG),--debug-kernel) \
		$(if $(BREAK),--break $(BREAK))

## bench: what acting as one costs, as ratios to the stock kernel
bench: kernel build
	$(LAB) bench

## lab-up: a cluster of two gateways and an initiator to try things on
lab-up: kernel build
	$(LAB) up

## lab-down: end it
lab-down:
	$(LAB) down

## build: all executables, in .build/release/
build: setup
	swift build -c release --static-swift-stdlib

## deb: Debian packages clio and clio-dkms, in .build/deb (KDIR= headers of a kernel that the series is for)
KERNEL ?= 6.12
deb: build
	@$(call install,debhelper dh-dkms chrpath dpkg-dev fakeroot)
	$(MAKE) -C kernel modules OUT=$(CURDIR)/.build/modules \
		KDIR="$${KDIR:-$$($(MAKE) -s --no-print-directory -C kernel headers)}"
	swift build -c release --static-swift-stdlib --product generate-manual
	KERNEL=$(KERNEL) packaging/deb.sh .build/release .build/modules .build/deb

## test-deb: lintian, unit, man pages, completions, and DKMS builds and installs the modules
test-deb: deb
	@$(call install,lintian dkms systemd)
	packaging/test-deb.sh .build/deb "$${KDIR:-$$($(MAKE) -s --no-print-directory -C kernel headers)}"

## test-machine: live, a gateway that boots Debian with the packages installed, in an emulated machine (some ten minutes)
test-machine: deb kernel
	@$(call install,mmdebstrap qemu-system-x86 qemu-utils)
	packaging/machine.sh .build/deb .build/machine
	CLIO_TEST_MACHINE=$(CURDIR)/.build/machine swift test --no-parallel --filter 'ClusterTests.PackagedMachineTests'

## test-release: live, on another release of Debian (RELEASE=trixie), as on a fresh machine: demo, kernel checks, two gateways
RELEASE ?= trixie
test-release:
	@$(call install,mmdebstrap)
	Tests/release.sh make $(RELEASE)
	Tests/release.sh run $(RELEASE) make demo
	Tests/release.sh run $(RELEASE) make test-kernel
	Tests/release.sh run $(RELEASE) make test-cluster FILTER='($(RELEASE_TESTS))'

# CAW, task management over two gateways, reservations of both, a node that dies and is fenced.
RELEASE_TESTS := GatewayTests.CompareAndWrite|RelayedTests.theClusterActsAsOne|ReservationTests.oneStateWhicheverGateway|LabLiveTests.life

## kernel: the lab's kernels, with and without our patches (cached outside the checkout)
kernel: setup
	$(MAKE) -C kernel um FLAVOUR=stock
	$(MAKE) -C kernel um FLAVOUR=clio

kernel-debug: setup
	$(MAKE) -C kernel um FLAVOUR=debug

kernel-broken: setup
	$(MAKE) -C kernel um FLAVOUR=broken

kernel-newer: setup
	$(MAKE) -C kernel um KERNEL=$(NEWER) FLAVOUR=clio

kernel-rdma: setup
	$(MAKE) -C kernel um FLAVOUR=rdma

kernel-fcoe: setup
	$(MAKE) -C kernel um FLAVOUR=fcoe

## lint: swift-format, checkpatch, sparse
lint: setup
	swift format lint --strict --recursive --parallel Package.swift Sources Tests
	$(MAKE) -C kernel lint

## setup: install the Debian packages that are missing
setup:
	@command -v swift >/dev/null || { echo "swift is not on PATH: install a Swift 6.1 or newer toolchain" >&2; exit 1; }
	@$(call install,$(PACKAGES))

# Installs those of some Debian packages that are missing.
install = missing=(); for p in $(1); do \
		dpkg-query -W -f='$${db:Status-Status}' "$$p" 2>/dev/null | grep -qx installed || missing+=("$$p"); done; \
	if (( $${\#missing[@]} )); then \
		[[ $$EUID == 0 ]] || { echo "missing packages: $${missing[*]}; run as root to install them" >&2; exit 1; }; \
		apt-get update -q && DEBIAN_FRONTEND=noninteractive \
			apt-get install -q -y --no-install-recommends "$${missing[@]}"; fi

## clean: forget this checkout's builds (kernels stay in the cache; `make -C kernel clean` removes them)
clean:
	rm -rf .build

help:
	@sed -n 's/^## /  /p' $(MAKEFILE_LIST)
