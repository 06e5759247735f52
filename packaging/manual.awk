# SPDX-License-Identifier: Apache-2.0
#
# manual.awk -v page=clio-node-up: what swift-argument-parser's generate-manual prints, as Debian wants manual pages: names without
# dots or blanks, paragraphs without empty lines, and the exit status, which the text ends with, where readers look for it.

/^\.Dt / { print ".Dt " toupper(page) " 8"; next }
/^\.Os/ { print ".Os Clio"; next }
/^\.Nm / { command = substr($0, 5); print ".Nm " page; next }
/^\.Nd / { sub(/\."$/, "\""); print; next }
/^\.Nm$/ { print ".Nm " command; next }
/^\.Xr .*\.help / { next }
/^\.Xr / { last = ""; gsub(/\./, "-", $2); print ".Xr " $2 " " $3 ($4 == "" ? "" : " ,"); next }
$0 == "EXIT STATUS" { kept = 1; next }
kept && /^ / { status = status $0 "\n"; next }
{ kept = 0 }
/^$/ { blank = 1; next }
blank { if (!/^\./) print ".Pp"; blank = 0 }
/^\.Ex -std/ {
	if (status != "") printf ".Bd -literal\n%s.Ed\n", status
	else if (page ~ /^clio-/) print "As described in\n.Xr clio 8 ."
	else print
	next
}
{ print; last = $0 }
END { if (last ~ /SEE ALSO/) print ".Xr clio 8" }
