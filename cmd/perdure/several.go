package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/sources"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/tree"
)

// severalFlags are the sources of a copy.
type severalFlags struct {
	never   bool     // of sync, which has one SRC
	args    []string // SRC
	several bool     // SRC is several files, or a pattern that may match several
}

// arguments checks the number of arguments, and keeps SRC.
func (f *severalFlags) arguments(_ *cobra.Command, args []string) error {
	switch {
	case f.never && len(args) != 2:
		return fmt.Errorf("invalid number of arguments %d: must be two: SRC and DST", len(args))
	case len(args) < 2:
		return fmt.Errorf("invalid number of arguments %d: must be two or more: SRC... and DST", len(args))
	}
	f.args = args[:len(args)-1]
	if f.never {
		return nil
	}
	literal, one := sources.Literal(f.args[0])
	f.several = len(f.args) > 1 || !one
	if !f.several {
		f.args = []string{literal}
	}
	return nil
}

// plan returns what a copy of many files copies, and to where.
func (f *copyFlags) plan(destination string, stores bool) (p sources.Plan, err error) {
	if f.several.several {
		p, err = sources.Parse(f.several.args, destination, sources.Options{Recursive: f.recursive, Links: tree.Links(f.links), Stores: stores})
	} else {
		p.Text = f.several.args[0]
		p.Tree, err = endpoint.ParseTree(p.Text, destination, stores)
	}
	return p, err
}
