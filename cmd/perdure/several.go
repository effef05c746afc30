package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/sources"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/tree"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// severalFlags are the sources of a copy.
type severalFlags struct {
	never   bool     // of sync, which has one SRC
	list    string   // file with the sources; "" means that SRC are arguments
	args    []string // SRC, or the file
	several bool     // SRC is several files, or a pattern that may match several
}

func (f *severalFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.list, "from-file", "", "`file` with the sources, in place of SRC: CSV with the columns URL, name and checksum, or a URL in each line; - is standard input")
}

// arguments checks the number of arguments, and keeps SRC.
func (f *severalFlags) arguments(c *cobra.Command, args []string) error {
	listed := !f.never && c.Flags().Changed("from-file")
	switch {
	case listed && f.list == "":
		return setting.Bad("--from-file", "", "a file with URLs, or - for standard input")
	case listed && len(args) != 1:
		return fmt.Errorf("invalid number of arguments %d: must be one with --from-file: DST", len(args))
	case listed:
		f.args, f.several = []string{f.list}, true
		return nil
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
func (f *copyFlags) plan(stdin *os.File, destination string, stores bool) (p sources.Plan, err error) {
	o := sources.Options{Recursive: f.recursive, Links: tree.Links(f.links), Stores: stores}
	if f.several.list != "" {
		in, err := sources.OpenList(f.several.list, stdin)
		if err != nil {
			return p, err
		}
		defer func() { _ = in.Close() }()
		return sources.ParseList(in, f.several.list, destination, o)
	}
	if f.several.several {
		p, err = sources.Parse(f.several.args, destination, o)
	} else {
		p.Text = f.several.args[0]
		p.Tree, err = endpoint.ParseTree(p.Text, destination, stores)
	}
	return p, err
}
