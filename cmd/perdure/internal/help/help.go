// Package help writes the help of commands and flags, and the help topics.
package help

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
)

// Policy returns the help topic about all parameters.
func Policy() *cobra.Command {
	return &cobra.Command{
		Use:   "policy",
		Short: "All parameters of a policy: flags, environment, file",
		Long:  policyText(),
	}
}

func policyText() string {
	var b strings.Builder
	b.WriteString(`A policy is set by flags, environment variables and a YAML file. A flag overrides the
environment, the environment the file, and the file the preset. A duration is a number
of seconds, or has a unit: 1500ms.

  flag          --max-attempts 7
  environment   PERDURE_MAX_ATTEMPTS=7
  file          --config FILE, or PERDURE_CONFIG=FILE:

                policy:
                  preset: s3_upload
                  max_attempts: 7
                  retry_on: [SlowDown, "503", timeout]
                circuit_breaker:
                  failure_threshold: 5
                  recovery_timeout_seconds: 30
                store: host

Without --config and PERDURE_CONFIG the file is $XDG_CONFIG_HOME/perdure/policies.yaml, or
~/.config/perdure/policies.yaml, if it exists. A file may have several policies:

                policies:
                  default: {preset: service}
                  fetch:
                    max_attempts: 7
                    circuit_breaker: {rate: 60/m}
                  load:
                    circuit_breaker: warehouse
                breakers:
                  warehouse: {gate: wait, concurrency: 4}

--policy fetch or PERDURE_POLICY=fetch chooses one of them, otherwise default applies. The
others inherit the values of default. Policies that name the same one of breakers share it.
perdure check shows the values of all policies.
`)
	section, indent := "", ""
	for _, p := range policy.Parameters() {
		if next := p.Section(); next != section {
			section, indent = next, ""
			b.WriteByte('\n')
			if next != "" {
				indent = "  "
				b.WriteString(next + ":\n")
			}
		}
		fmt.Fprintf(&b, "%s%-*s%s\n", indent, 28-len(indent), p.Name, p.Describe())
	}
	b.WriteString(`
Other variables:
  PERDURE_CONFIG            same as --config
  PERDURE_POLICY            same as --policy
  PERDURE_STATE             directory of the shared state, an absolute path (~/.local/state/perdure)
  PERDURE_LOG_LEVEL         same as --log-level
  PERDURE_LOG_FORMAT        same as --log-format
  PERDURE_DAGSTER           same as run --dagster
  PERDURE_METRICS_FILE      same as --metrics-file
  PERDURE_ATTEMPT           set by run for its command: the number of the attempt
  PERDURE_BREAKER*          set for the command of --on-open: the circuit breaker that has opened
`)
	return strings.TrimSpace(b.String())
}

// ExitCodes returns the help topic about the exit codes.
func ExitCodes() *cobra.Command {
	var b strings.Builder
	b.WriteString("What the exit codes mean:\n\n")
	for _, m := range exit.Meanings() {
		fmt.Fprintf(&b, "  %5s  %s\n", m.Code, m.Text)
	}
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long:  strings.TrimSpace(b.String()),
	}
}

// Usage writes the usage, examples, subcommands and flags of c.
func Usage(c *cobra.Command) error {
	w := c.OutOrStdout()
	if c.Runnable() {
		fmt.Fprintf(w, "Usage:\n  %s\n", c.UseLine())
	} else {
		fmt.Fprintf(w, "Usage:\n  %s COMMAND [flags]\n", c.CommandPath())
	}
	if c.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", c.Example)
	}
	for _, list := range []struct {
		title  string
		listed func(*cobra.Command) bool
	}{
		{"Commands", (*cobra.Command).IsAvailableCommand},
		{"Topics", (*cobra.Command).IsAdditionalHelpTopicCommand},
	} {
		title := "\n" + list.title + ":\n"
		for _, sub := range c.Commands() {
			if list.listed(sub) {
				fmt.Fprintf(w, "%s  %-*s %s\n", title, c.NamePadding(), sub.Name(), sub.Short)
				title = ""
			}
		}
	}
	for _, g := range groups(c) {
		fmt.Fprintf(w, "\n%s:\n%s", g.title, g.flags.FlagUsagesWrapped(100))
	}
	title := "\nFlags not shown above:\n"
	for _, g := range unshown(c) {
		var names []string
		g.flags.VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
		fmt.Fprintf(w, "%s  %s:\n%s", title, g.title, wrapped(names, "    ", 100))
		title = ""
	}
	return nil
}

// wrapped joins words with commas, in lines of at most width columns that begin with indent.
func wrapped(words []string, indent string, width int) string {
	var b strings.Builder
	line := indent
	for i, word := range words {
		if i < len(words)-1 {
			word += ","
		}
		if line != indent && len(line)+len(word) >= width {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = indent
		}
		line += word + " "
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
	return b.String()
}

// A group holds the flags under one heading.
type group struct {
	title string
	flags *pflag.FlagSet
}

// groups returns the flags of c by group: flags without a group first, then the other
// groups in the order of their first flags, and the flags that all commands have last.
func groups(c *cobra.Command) []*group {
	var all []*group
	c.LocalFlags() // which adds the flags of all commands to c.Flags
	flags := c.Flags()
	add := func(f *pflag.Flag, last bool) {
		title := "Flags"
		if named := f.Annotations[policy.Group]; len(named) > 0 {
			title = named[0]
		}
		showDefault(f)
		if (title == "Other") == last && !f.Hidden {
			all = place(all, title, f)
		}
	}
	flags.SortFlags = false
	flags.VisitAll(func(f *pflag.Flag) { add(f, false) })
	flags.VisitAll(func(f *pflag.Flag) { add(f, true) })
	return all
}

// place adds f to the group with that title, which it appends if there is no such group.
func place(all []*group, title string, f *pflag.Flag) []*group {
	for _, g := range all {
		if g.title == title {
			g.flags.AddFlag(f)
			return all
		}
	}
	g := &group{title, pflag.NewFlagSet(title, pflag.ContinueOnError)}
	g.flags.SortFlags = false
	g.flags.AddFlag(f)
	return append(all, g)
}

// showDefault appends the default of f to the flag's text, in parentheses, where package
// pflag would write "(default ...)".
func showDefault(f *pflag.Flag) {
	if text := f.DefValue; !slices.Contains([]string{"", "0", "false", "[]"}, text) {
		f.Usage += " (" + text + ")"
	}
	switch f.Value.Type() {
	case "string":
		f.DefValue = ""
	case "bool":
		f.DefValue = "false"
	case "stringSlice", "stringArray":
		f.DefValue = "[]"
	default:
		f.DefValue = "0"
	}
}
