package main

import (
	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/filter"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/tree"
)

// chooseFlags are the flags of copy -r and sync that choose files.
type chooseFlags struct{ rules filter.Rules }

// chooseNames are the names of these flags.
var chooseNames = []string{"include", "exclude", "exclude-from", "shard"} //nolint:gochecknoglobals // a constant

func (f *chooseFlags) add(flags *pflag.FlagSet) {
	flags.Var(each(f.rules.Include), "include", "copy files that match `pattern`, such as *.csv or /2024/**; the last --include or --exclude that matches decides, and without an --exclude before it no other file is copied")
	flags.Var(each(f.rules.Exclude), "exclude", "do not copy, nor delete, files that match `pattern`, such as *.tmp or tmp/")
	flags.Var(each(f.rules.ExcludeFrom), "exclude-from", "`file` with patterns to exclude, one in a line")
	flags.Var(each(f.rules.Shard), "shard", "copy one of several disjoint parts, as `number/count` in 3/16: a job on each of several machines copies one")
}

// apply gives the choice to a job.
func (f *chooseFlags) apply(job *tree.Job) {
	if f.rules.Any() {
		job.Chosen, job.Without, job.AllowNone = f.rules.Chosen, f.rules.Without, f.rules.Sharded()
	}
}

// each is a flag whose function is called with each value.
type each func(string) error

func (each) String() string          { return "" }
func (each) Type() string            { return "text" }
func (e each) Set(text string) error { return e(text) }
