// SPDX-License-Identifier: GPL-2.0
/*
 * Malformed messages to the netlink family blk-cluster.
 *
 * One socket is the relay and stays it; another sends messages made at random
 * from a seed: attributes of all kinds, missing, repeated, nested wrongly, cut
 * short, or valid ones for the wrong moment. In the end the relay still has to
 * be attached and the kernel still has to answer. What else must not happen
 * shows on the console.
 *
 * usage: netlink-fuzz [MESSAGES [SEED]]
 */

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/blk_cluster.h>

#define BUFFER	8192

static uint64_t state;

/* xorshift64* */
static uint64_t next(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 0x2545f4914f6cdd1dULL;
}

static uint32_t below(uint32_t limit)
{
	return next() % limit;
}

static void die(const char *what)
{
	fprintf(stderr, "netlink-fuzz: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_socket(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	struct timeval timeout = { .tv_sec = 5 };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)))
		die("netlink socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	return fd;
}

/* Begin a message: header of netlink and of generic netlink. */
static struct nlmsghdr *begin(void *buffer, uint16_t type, uint16_t flags,
			      uint8_t cmd)
{
	struct nlmsghdr *message = buffer;
	struct genlmsghdr *header;

	memset(buffer, 0, NLMSG_SPACE(GENL_HDRLEN));
	message->nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	message->nlmsg_type = type;
	message->nlmsg_flags = NLM_F_REQUEST | flags;
	header = NLMSG_DATA(message);
	header->cmd = cmd;
	header->version = 1;
	return message;
}

static void put(struct nlmsghdr *message, uint16_t type, const void *data,
		uint16_t len)
{
	struct nlattr *attribute = (void *)((char *)message +
					    NLMSG_ALIGN(message->nlmsg_len));

	attribute->nla_type = type;
	attribute->nla_len = NLA_HDRLEN + len;
	if (len)
		memcpy((char *)attribute + NLA_HDRLEN, data, len);
	message->nlmsg_len = NLMSG_ALIGN(message->nlmsg_len) +
			     NLA_ALIGN(attribute->nla_len);
}

static void transmit(int fd, const struct nlmsghdr *message)
{
	if (send(fd, message, message->nlmsg_len, 0) < 0 && errno != ENOBUFS)
		die("send");
}

/* Return: the error the kernel acknowledges with, 0 or negative. */
static int acknowledged(int fd)
{
	char buffer[BUFFER];

	for (;;) {
		ssize_t len = recv(fd, buffer, sizeof(buffer), 0);
		struct nlmsghdr *message = (void *)buffer;

		if (len < 0)
			die("no answer from the kernel");
		for (; NLMSG_OK(message, len); message = NLMSG_NEXT(message, len))
			if (message->nlmsg_type == NLMSG_ERROR)
				return ((struct nlmsgerr *)NLMSG_DATA(message))->error;
	}
}

static void drain(int fd)
{
	char buffer[BUFFER];

	while (recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0)
		;
}

static uint16_t find_family(int fd)
{
	char buffer[BUFFER];
	struct nlmsghdr *message = begin(buffer, GENL_ID_CTRL, 0,
					 CTRL_CMD_GETFAMILY);
	struct nlattr *attribute;
	ssize_t len;
	char *end;

	put(message, CTRL_ATTR_FAMILY_NAME, BLK_CLUSTER_FAMILY_NAME,
	    sizeof(BLK_CLUSTER_FAMILY_NAME));
	transmit(fd, message);
	len = recv(fd, buffer, sizeof(buffer), 0);
	if (len < 0 || message->nlmsg_type == NLMSG_ERROR) {
		errno = ENOENT;
		die("family " BLK_CLUSTER_FAMILY_NAME " (is blk_cluster loaded?)");
	}
	attribute = (void *)(buffer + NLMSG_LENGTH(GENL_HDRLEN));
	end = buffer + len;
	while ((char *)attribute < end) {
		if (attribute->nla_type == CTRL_ATTR_FAMILY_ID)
			return *(uint16_t *)((char *)attribute + NLA_HDRLEN);
		attribute = (void *)((char *)attribute +
				     NLA_ALIGN(attribute->nla_len));
	}
	errno = EPROTO;
	die("family id");
	return 0;
}

/* Fill @data with something that an attribute might hold. Return: its length. */
static uint16_t make_value(uint8_t *data)
{
	static const uint16_t lengths[] = { 0, 1, 2, 4, 4, 8, 8, 8, 64, 200 };
	uint16_t len = lengths[below(10)];
	uint64_t value = next();

	switch (below(6)) {
	case 0:			/* small numbers find enums and ids */
		value = below(4);
		break;
	case 1:
		value = UINT64_MAX;
		break;
	case 2:			/* the head of an event's payload */
		len = 4 + below(80);
		break;
	}
	for (uint16_t i = 0; i < len; i++)
		data[i] = i < 8 ? value >> (8 * i) : next();
	if (!below(3) && len >= 4) {
		data[0] = 1;
		data[1] = below(4);
		data[2] = below(70);
		data[3] = 0;
	}
	return len;
}

static void fuzz_one(int fd, uint16_t family)
{
	uint8_t value[256];
	char buffer[BUFFER];
	static const uint16_t flags[] = { 0, 0, NLM_F_ACK, NLM_F_DUMP };
	struct nlmsghdr *message;
	uint32_t attributes = below(8);
	uint8_t cmd = below(BLK_CLUSTER_CMD_MAX + 3);

	message = begin(buffer, family, flags[below(4)], cmd);
	while (attributes--) {
		uint16_t type = below(16);

		if (!below(20))
			type |= NLA_F_NESTED;
		put(message, type, value, make_value(value));
	}

	/* Lengths that lie, of the last attribute or of the whole message. */
	if (!below(8) && message->nlmsg_len > NLMSG_LENGTH(GENL_HDRLEN) + 4) {
		char *byte = buffer + NLMSG_LENGTH(GENL_HDRLEN) +
			     below(message->nlmsg_len -
				   NLMSG_LENGTH(GENL_HDRLEN));

		*byte = next();
	}
	if (!below(16))
		message->nlmsg_len -= below(message->nlmsg_len - NLMSG_HDRLEN);

	transmit(fd, message);
}

int main(int argc, char **argv)
{
	unsigned long messages = argc > 1 ? strtoul(argv[1], NULL, 0) : 100000;
	char buffer[BUFFER];
	int relay = open_socket();
	int other = open_socket();
	uint16_t family = find_family(other);
	struct nlmsghdr *attach;
	int error;

	state = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	if (!state)
		state = 1;
	printf("%lu messages, seed %llu\n", messages,
	       (unsigned long long)state);

	attach = begin(buffer, family, NLM_F_ACK, BLK_CLUSTER_CMD_RELAY_ATTACH);
	transmit(relay, attach);
	error = acknowledged(relay);
	if (error) {
		errno = -error;
		die("relay-attach");
	}

	for (unsigned long i = 0; i < messages; i++) {
		/* The relay itself may be the one that has gone mad. */
		int fd = below(2) ? relay : other;

		fuzz_one(fd, family);
		drain(fd);
	}
	drain(relay);
	drain(other);

	attach = begin(buffer, family, NLM_F_ACK, BLK_CLUSTER_CMD_RELAY_ATTACH);
	transmit(other, attach);
	error = acknowledged(other);
	if (error != -EBUSY) {
		fprintf(stderr, "netlink-fuzz: the relay is not attached any more: another one's attach gets %d\n",
			error);
		return 1;
	}
	transmit(relay, attach);
	error = acknowledged(relay);
	if (error) {
		fprintf(stderr, "netlink-fuzz: the relay gets %d\n", error);
		return 1;
	}
	printf("the relay is attached, the kernel answers\n");
	return 0;
}
