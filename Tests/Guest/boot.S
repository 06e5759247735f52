# SPDX-License-Identifier: Apache-2.0
#
# Boot sector of a virtual machine that does what comes in at its first serial port, one character each:
#   r  reads block 2048 and prints its first word
#   w  writes what was read last to block 2049
# Each is answered by a line; a failure by the BIOS' status, in hexadecimal. The BIOS does the reading and writing (INT 13h).

	.code16
	.globl	_start

	.set	PORT, 0x3f8		# COM1
	.set	LINE_STATUS, PORT + 5
	.set	BUFFER, 0x8000
	.set	BLOCK, 2048

_start:
	ljmp	$0, $1f			# some BIOSes enter at 07c0:0000
1:	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$_start, %sp
	movb	%dl, drive
	movw	$started, %si
	call	print

wait:	sti
	hlt				# until the timer ticks: the node has other work for its processor
	movw	$LINE_STATUS, %dx
	inb	%dx, %al
	testb	$1, %al			# a character is there
	jz	wait
	movw	$PORT, %dx
	inb	%dx, %al
	cmpb	$'r', %al
	je	read
	cmpb	$'w', %al
	jne	wait

	movw	$BLOCK + 1, packet_block
	movw	$0x4300, %ax		# extended write, without verifying
	call	disk
	movw	$written, %si
	call	print
	jmp	wait

read:	movw	$BLOCK, packet_block
	movb	$0x42, %ah		# extended read
	call	disk
	movw	$was_read, %si
	call	print
	movw	$BUFFER, %si
	call	print
	call	newline
	jmp	wait

# Has the BIOS do what %ax says. Does not return to where it was called from if that fails.
disk:	movw	$1, packet_count	# the BIOS leaves there how many blocks it did
	movb	drive, %dl
	movw	$packet, %si
	int	$0x13
	jc	1f
	ret
1:	popw	%cx
	movb	%ah, %bl
	movw	$failed, %si
	call	print
	movb	%bl, %al
	shrb	$4, %al
	call	digit
	movb	%bl, %al
	andb	$15, %al
	call	digit
	call	newline
	jmp	wait

digit:	addb	$'0', %al
	cmpb	$'9', %al
	jbe	send
	addb	$'a' - '9' - 1, %al
	jmp	send

# Prints from %si on, up to a space or a zero.
1:	call	send
print:	lodsb
	cmpb	$' ', %al
	je	2f
	testb	%al, %al
	jnz	1b
2:	ret

newline:
	movb	$'\n', %al
send:	movb	%al, %ah
	movw	$LINE_STATUS, %dx
1:	inb	%dx, %al
	testb	$0x20, %al		# there is room for a character
	jz	1b
	movw	$PORT, %dx
	movb	%ah, %al
	outb	%al, %dx
	ret

started:	.asciz	"started\n"
was_read:	.asciz	"read:"
written:	.asciz	"written\n"
failed:		.asciz	"failed:"

	.balign	4
packet:	.byte	16, 0			# its size
packet_count:
	.word	0
	.word	BUFFER, 0		# offset, segment
packet_block:
	.quad	0
drive:	.byte	0

	.org	510
	.word	0xaa55
