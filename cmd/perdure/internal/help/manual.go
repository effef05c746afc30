package help

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
)

// A Page is the manual page of a command or a help topic.
type Page struct {
	Command string `json:"command"` // "perdure s3 clean"
	File    string `json:"file"`    // below a directory of manuals: "man1/perdure-s3-clean.1"
	Short   string `json:"short"`   // one line about the command
	Help    string `json:"help"`    // what --help prints
	Roff    string `json:"roff"`    // the page in the man(7) language
}

// Pages returns the manual pages of c and of all commands and topics below it. date, which
// may be empty, and version are written at the foot of each page.
func Pages(c *cobra.Command, date, version string) []Page {
	all := []Page{page(c, date, version)}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
			all = append(all, Pages(sub, date, version)...)
		}
	}
	return all
}

func page(c *cobra.Command, date, version string) Page {
	var text strings.Builder
	out := c.OutOrStdout()
	c.SetOut(&text)
	_ = c.Help() // into text, which cannot fail
	c.SetOut(out)
	file := fmt.Sprintf("man%s/%s.%[1]s", section(c), manName(c))
	return Page{c.CommandPath(), file, c.Short, text.String(), roff(c, date, version)}
}

// section is 1 for a command and 7 for a topic.
func section(c *cobra.Command) string {
	if c.IsAdditionalHelpTopicCommand() {
		return "7"
	}
	return "1"
}

func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// roff returns the page of c in the language of man(7).
func roff(c *cobra.Command, date, version string) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s %s \"%s\" \"%s\" \"Perdure Manual\"\n", strings.ToUpper(manName(c)), section(c), date, escape(version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", escape(manName(c)), escape(c.Short))
	if section(c) == "1" {
		line := c.CommandPath() + " COMMAND"
		if c.Runnable() && !c.HasSubCommands() {
			line = c.UseLine()
		}
		fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", escape(line))
	}
	b.WriteString(".SH DESCRIPTION\n")
	paragraphs(&b, cmp.Or(c.Long, c.Short+"."))
	if c.HasExample() {
		b.WriteString(".SH EXAMPLES\n")
		literal(&b, c.Example)
	}
	subcommands(&b, c)
	if section(c) == "1" {
		options(&b, c)
	}
	seeAlso(&b, c)
	return b.String()
}

// paragraphs writes text. A paragraph with indented lines or columns keeps its lines.
func paragraphs(b *strings.Builder, text string) {
	begin := ""
	for part := range strings.SplitSeq(strings.Trim(text, "\n"), "\n\n") {
		if part == "" {
			continue
		}
		b.WriteString(begin)
		begin = ".PP\n"
		if strings.HasPrefix(part, " ") || strings.Contains(part, "\n ") || strings.Contains(part, "   ") {
			literal(b, part)
			continue
		}
		b.WriteString(lines(part))
	}
}

// literal writes text as it stands.
func literal(b *strings.Builder, text string) {
	fmt.Fprintf(b, ".nf\n%s.fi\n", lines(text))
}

// lines escapes text line by line: no line is blank or a request.
func lines(text string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		if line = escape(strings.TrimRight(line, " \t")); line == "" {
			line = `\&`
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// escape returns text as roff prints it. A hyphen is printed as the character that can be
// copied into a shell.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`, "\t", "        ").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

func subcommands(b *strings.Builder, c *cobra.Command) {
	title := ".SH COMMANDS\n"
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
			fmt.Fprintf(b, "%s.TP\n.BR %s (%s)\n%s\n", title, escape(manName(sub)), section(sub), escape(sub.Short))
			title = ""
		}
	}
}

// options writes the flags of c, with those that its help does not show.
func options(b *strings.Builder, c *cobra.Command) {
	b.WriteString(".SH OPTIONS\n")
	for _, g := range groups(c) {
		b.WriteString(".SS " + g.title + "\n")
		g.flags.VisitAll(func(f *pflag.Flag) { option(b, f) })
	}
	for _, g := range unshown(c) {
		fmt.Fprintf(b, ".SS Not in \\-\\-help: %s\n", escape(g.title))
		g.flags.VisitAll(func(f *pflag.Flag) { option(b, f) })
	}
}

func option(b *strings.Builder, f *pflag.Flag) {
	kind, text := pflag.UnquoteUsage(f)
	name := `\fB` + escape("--"+f.Name) + `\fR`
	if f.Shorthand != "" {
		name = `\fB` + escape("-"+f.Shorthand) + `\fR, ` + name
	}
	if kind != "" && f.Value.Type() != "bool" {
		name += ` \fI` + escape(kind) + `\fR`
	}
	fmt.Fprintf(b, ".TP\n%s\n%s\n", name, escape(text))
}

func seeAlso(b *strings.Builder, c *cobra.Command) {
	var pages []string
	add := func(about *cobra.Command) {
		pages = append(pages, fmt.Sprintf(".BR %s (%s)", escape(manName(about)), section(about)))
	}
	if c.HasParent() {
		add(c.Parent())
	}
	for _, topic := range c.Root().Commands() {
		if topic.IsAdditionalHelpTopicCommand() && topic != c {
			add(topic)
		}
	}
	fmt.Fprintf(b, ".SH SEE ALSO\n%s\n", strings.Join(pages, ",\n"))
}

// unshown returns the hidden flags of c by the reason for which they are hidden.
func unshown(c *cobra.Command) []*group {
	var all []*group
	c.LocalFlags() // which adds the flags of all commands to c.Flags
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if reason := f.Annotations[policy.Hidden]; f.Hidden && len(reason) > 0 {
			all = place(all, reason[0], f)
		}
	})
	return all
}
