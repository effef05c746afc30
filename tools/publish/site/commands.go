package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"html/template"
	"io"
	"path"
	"strings"
)

// A manual is what `perdure man --json` prints of a command.
type manual struct {
	Command string `json:"command"`
	File    string `json:"file"`
	Short   string `json:"short"`
	Help    string `json:"help"`
}

// addCommands adds a page for each command of the lines that `perdure man --json` prints.
func (s *site) addCommands(lines []byte) error {
	d := json.NewDecoder(bytes.NewReader(lines))
	for {
		var m manual
		err := d.Decode(&m)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the manual: %w", err)
		}
		base := strings.TrimSuffix(path.Base(m.File), path.Ext(m.File))
		source := "commands/" + base + ".txt"
		s.manual = append(s.manual, source)
		s.pages[source] = &page{
			Source: source, Name: "commands/" + base + ".html",
			Title: m.Command + ": " + m.Short, Short: m.Command, Body: helpBody(m),
		}
	}
}

// helpBody returns the body of a command's page: its text in paragraphs, then usage and flags as the command prints them.
func helpBody(m manual) template.HTML {
	text, usage, found := strings.Cut(m.Help, "\n\nUsage:\n")
	var b strings.Builder
	fmt.Fprintf(&b, "<h1>%s</h1>\n", html.EscapeString(m.Command))
	for part := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		tag := "p"
		if strings.HasPrefix(part, " ") || strings.Contains(part, "\n ") || strings.Contains(part, "   ") {
			tag = "pre"
		}
		fmt.Fprintf(&b, "<%s>%s</%[1]s>\n", tag, html.EscapeString(strings.Trim(part, "\n")))
	}
	if found {
		fmt.Fprintf(&b, "<h2 id=\"usage\">Usage</h2>\n<pre>%s</pre>\n", html.EscapeString(strings.TrimRight(usage, "\n")))
	}
	return template.HTML(framed(b.String())) //nolint:gosec // escaped above
}
