// Command site makes the documentation site from README.md, the pages it leads to, and the help of the command. The site
// is static: its pages can be read from a disk, without JavaScript, and request nothing from elsewhere.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
)

func main() {
	root := flag.String("root", "../..", "the `directory` of the tree")
	perdure := flag.String("perdure", "", "the binary of the command, whose help becomes pages")
	out := flag.String("out", "", "the `directory` to write, which is emptied first")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	n, err := build(ctx, *root, *perdure, *out)
	if err != nil {
		fmt.Fprintln(os.Stderr, "site:", err)
		os.Exit(1)
	}
	fmt.Fprintf(os.Stdout, "%s: %d pages\n", filepath.Join(*out, "index.html"), n)
}

// build writes the site to out, and returns the number of its pages.
func build(ctx context.Context, root, perdure, out string) (int, error) {
	if perdure == "" || out == "" {
		return 0, fmt.Errorf("-perdure and -out are required")
	}
	manual, err := exec.CommandContext(ctx, perdure, "man", "--json").Output() //nolint:gosec // the binary that the caller names
	if err != nil {
		return 0, fmt.Errorf("%s man --json: %w", perdure, err)
	}
	s := newSite(root)
	if err := s.addTree("README.md"); err != nil {
		return 0, err
	}
	if err := s.addCommands(manual); err != nil {
		return 0, err
	}
	if err := os.RemoveAll(out); err != nil {
		return 0, err
	}
	return len(s.pages), s.write(out)
}
