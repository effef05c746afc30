package main

import (
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// The formats of log lines. All are the same on a terminal and elsewhere.
const (
	textFormat = "text" // INFO: message
	timeFormat = "time" // text after the local time
	jsonFormat = "json" // an object
)

// format returns the format of log lines: that of --log-format, else json with --json, else
// that of PERDURE_LOG_FORMAT, else text.
func (a *app) format() (string, error) {
	known := []string{textFormat, timeFormat, jsonFormat}
	switch {
	case a.logFormat != "" && !slices.Contains(known, a.logFormat):
		return textFormat, setting.Unknown("--log-format", a.logFormat, known)
	case a.json && a.logFormat != "" && a.logFormat != jsonFormat:
		return jsonFormat, setting.Bad("--log-format", a.logFormat, "json with --json")
	case a.json:
		return jsonFormat, nil
	case a.logFormat != "":
		return a.logFormat, nil
	}
	text := a.getenv("PERDURE_LOG_FORMAT")
	if text == "" {
		return textFormat, nil
	}
	if !slices.Contains(known, text) {
		return textFormat, setting.Unknown("PERDURE_LOG_FORMAT", text, known)
	}
	return text, nil
}

// logsJSON reports whether log lines and errors are JSON objects.
func (a *app) logsJSON() bool {
	format, _ := a.format()
	return format == jsonFormat
}

// logger returns a logger that writes lines to w in the format of this command.
func (a *app) logger(w io.Writer) *slog.Logger {
	level, _ := a.threshold()
	switch format, _ := a.format(); format {
	case jsonFormat:
		return slog.New(report.JSON(w, level))
	case timeFormat:
		return slog.New(report.TimedLines(w, level))
	default:
		return slog.New(report.Lines(w, level))
	}
}

// printText writes the text of the error that ends the command.
func (a *app) printText(text string) {
	stamp := ""
	if format, _ := a.format(); format == timeFormat {
		stamp = report.Stamp() + " "
	}
	fmt.Fprintf(a.stderr, "%sperdure: %s\n", stamp, text)
}
