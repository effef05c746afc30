// Command release checks that users can build the tree once it is tagged: it makes a file-based module proxy from the
// tree, installs the command from it, and builds a user's module, each in an empty directory. It works in a temporary
// directory with its own module cache: the tree is not written to, and the user's cache never contains our unpublished
// versions.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/seed-0f2c7998/perdure/tools/tree"
)

func main() {
	version := flag.String("version", "v0.1.0", "the version that the tree is to be published as")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, "..", *version); err != nil {
		fmt.Fprintln(os.Stderr, "release-check:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root, version string) (err error) {
	mods, err := tree.Modules(root)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "perdure-release-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()

	outside, err := newOutside(ctx, tmp)
	if err != nil {
		return err
	}
	for _, m := range mods {
		if !m.Published() {
			continue
		}
		if err := publish(ctx, outside.proxy, m, version); err != nil {
			return fmt.Errorf("module %s: %w", m.Rel, err)
		}
	}
	return outside.check(ctx, mods, version)
}
