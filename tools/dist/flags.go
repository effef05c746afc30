package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// flagsHead begins perdure/_flags.py. Type checkers read the file, programs do not.
const flagsHead = `"""The flags of the command, as its help lists them. Generated when the wheel is built."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TypedDict, Union

Value = Union[str, int, float, timedelta, "os.PathLike[str]", None]
Values = Union[Value, Sequence[Value]]
`

var (
	shownFlag  = regexp.MustCompile(`^(?:  -\w, |      )--([a-z0-9-]+)( ('[^']*'|\S+))?(?:  +(.*)|$)`)
	hiddenFlag = regexp.MustCompile(`--([a-z0-9-]+)`)
)

// typedFlags returns perdure/_flags.py: a TypedDict of the flags of each command that has a function in Python. binary is
// the command, for this platform.
func typedFlags(ctx context.Context, binary string) (entry, error) {
	var text strings.Builder
	text.WriteString(flagsHead)
	for _, c := range []struct{ command, own string }{{"run", ""}, {"copy", "recursive"}, {"sync", "delete"}} {
		help, err := exec.CommandContext(ctx, binary, c.command, "--help").Output() //nolint:gosec // the command of this tree
		if err != nil {
			return entry{}, fmt.Errorf("perdure %s --help: %w", c.command, err)
		}
		text.WriteString(typedDict(c.command, c.own, string(help)))
	}
	return entry{"perdure/_flags.py", 0o644, []byte(text.String())}, nil
}

// typedDict returns the class of a command's flags, without the flag own, which is a parameter in Python, and those that
// the package sets or that print something else.
func typedDict(command, own, help string) string {
	var class strings.Builder
	fmt.Fprintf(&class, "\n\nclass %sFlags(TypedDict, total=False):\n    \"\"\"Flags of perdure %s.\"\"\"\n\n", strings.ToUpper(command[:1])+command[1:], command)
	_, list, _ := strings.Cut(help, "\nFlags:\n")
	list, hidden, _ := strings.Cut(list, "\nFlags not shown above:\n")
	left := []string{own, "help", "json", "log-level", "log-format"}
	field := func(name, kind string) {
		if !slices.Contains(left, name) {
			left = append(left, name)
			fmt.Fprintf(&class, "    %s: %s\n", strings.ReplaceAll(name, "-", "_"), kind)
		}
	}
	for line := range strings.SplitSeq(list, "\n") {
		if m := shownFlag.FindStringSubmatch(line); m != nil && m[2] == "" {
			field(m[1], "Union[bool, None]")
		} else if m != nil {
			field(m[1], "Values")
		}
	}
	for _, m := range hiddenFlag.FindAllStringSubmatch(hidden, -1) {
		field(m[1], "Values")
	}
	return class.String()
}
