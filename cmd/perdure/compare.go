package main

import (
	"errors"

	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/sums"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/tree"
)

// compareFlags are the flags of copy -r and sync that say when a file is the same on both sides.
type compareFlags struct{ sizeOnly, modTimes, noCache bool }

// compareNames are the names of these flags.
var compareNames = []string{"size-only", "mtime", "no-cache"} //nolint:gochecknoglobals // a constant

func (f *compareFlags) add(flags *pflag.FlagSet) {
	flags.BoolVar(&f.sizeOnly, "size-only", false, "skip files that DST has with the same size, without comparing checksums")
	flags.BoolVar(&f.modTimes, "mtime", false, "keep modification times, in the metadata mtime of objects, and skip files that DST has with the same size and time")
	flags.BoolVar(&f.noCache, "no-cache", false, "read files again whose checksum is known from an earlier run")
}

// check returns an error about a flag that would have no effect.
func (f *compareFlags) check(t endpoint.Tree) error {
	switch {
	case f.modTimes && f.sizeOnly:
		return exit.UsageError(errors.New("--size-only and --mtime cannot be used together"))
	case f.noCache && f.sizeOnly:
		return exit.UsageError(errors.New("--no-cache has no effect with --size-only, which compares no checksums"))
	case f.noCache && t.Dir == "":
		return exit.UsageError(errors.New("--no-cache is for a directory as SRC or DST: the checksums of objects are not cached"))
	}
	return nil
}

// apply gives the comparison to a job.
func (f *compareFlags) apply(job *tree.Job) {
	job.SizeOnly, job.Session.ModTimes = f.sizeOnly, f.modTimes
	if f.noCache || f.sizeOnly || job.Dir == "" {
		return
	}
	if dir, err := sums.Dir(); err == nil {
		job.Sums = sums.Open(dir, job.Dir, job.Warn)
	}
}
