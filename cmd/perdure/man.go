package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/help"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

func (a *app) manCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "man [flags] [COMMAND...]",
		Short: "Print manual pages, or write them to a directory",
		Long: `Print the manual page of a command, for man to show. Without COMMAND it is the page of perdure. With
--dir, all pages are written to a directory of manuals, and with --json they are printed, one object per
line. The pages have the date of SOURCE_DATE_EPOCH (seconds since 1970), or no date.`,
		Example: `  perdure man copy | man -l -
  perdure man --dir ~/.local/share/man && man perdure-copy`,
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			date, err := a.sourceDate()
			if err != nil {
				return err
			}
			pages := help.Pages(c.Root(), date, version())
			if !a.json && dir == "" {
				return a.printPage(pages, args)
			}
			if len(args) > 0 {
				return exit.UsageError(setting.Bad("COMMAND", strings.Join(args, " "), "absent with --dir and --json, which are for all pages"))
			}
			return a.writePages(pages, dir)
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "`directory` for all pages, as man1/perdure-copy.1; it is created if it does not exist")
	return c
}

// sourceDate returns the date of SOURCE_DATE_EPOCH, or "" if that is not set.
func (a *app) sourceDate() (string, error) {
	text := a.getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return "", nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if last := int64(253402300799); err != nil || seconds < 0 || seconds > last { // 9999-12-31
		return "", exit.UsageError(setting.Bad("SOURCE_DATE_EPOCH", text, fmt.Sprintf("seconds since 1970, from 0 to %d", last)))
	}
	return time.Unix(seconds, 0).UTC().Format(time.DateOnly), nil
}

// printPage prints the page of the command that words name.
func (a *app) printPage(pages []help.Page, words []string) error {
	command := strings.Join(append([]string{"perdure"}, words...), " ")
	at := slices.IndexFunc(pages, func(p help.Page) bool { return p.Command == command })
	if at < 0 {
		var names []string
		for _, p := range pages[1:] {
			names = append(names, strings.TrimPrefix(p.Command, "perdure "))
		}
		return exit.UsageError(setting.Unknown("COMMAND", strings.Join(words, " "), names))
	}
	_, err := io.WriteString(a.stdout, pages[at].Roff)
	return err
}

// writePages writes all pages to dir, if it is not "", and prints them with --json.
func (a *app) writePages(pages []help.Page, dir string) error {
	for _, p := range pages {
		if dir != "" {
			path := filepath.Join(dir, filepath.FromSlash(p.File))
			err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(p.Roff), 0o644))
			if err != nil {
				return err
			}
		}
		if !a.json {
			continue
		}
		text, err := json.Marshal(p)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(a.stdout, "%s\n", text); err != nil {
			return err
		}
	}
	return nil
}
