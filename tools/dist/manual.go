package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// A host holds what the command prints of itself on this host, for the archives and packages of every platform.
type host struct {
	binary  string // the command for this host
	manuals string // a directory of manual pages
	typed   entry  // the module of a wheel with the types of all flags
}

// newHost builds the command for this host, in dir, and has it write its manual pages and list its flags.
func newHost(ctx context.Context, root, dir, version string, at time.Time) (host, error) {
	h := host{binary: filepath.Join(dir, "perdure"), manuals: filepath.Join(dir, "man")}
	err := compile(ctx, root, h.binary, version)
	if err != nil {
		return h, err
	}
	if h.typed, err = typedFlags(ctx, h.binary); err != nil {
		return h, err
	}
	cmd := exec.CommandContext(ctx, h.binary, "man", "--dir", h.manuals)
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(at.Unix(), 10))
	return h, cmd.Run()
}

// compile builds the command, for this host or as env says.
func compile(ctx context.Context, root, binary, version string, env ...string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X main.release="+version, "-o", binary, "./cmd/perdure")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOWORK="), env...)
	return cmd.Run()
}

// manualEntries reads the manual pages as files of an archive, below dir.
func manualEntries(manuals, dir string) (all []entry, err error) {
	err = fs.WalkDir(os.DirFS(manuals), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(os.DirFS(manuals), name)
		all = append(all, entry{dir + "man/" + name, 0o644, data})
		return err
	})
	return all, err
}

// packages makes the deb and the rpm of a Linux binary in out, and returns their names.
func (h host) packages(ctx context.Context, root, out, binary, version string, p platform, at time.Time) ([]string, error) {
	before, err := filepath.Glob(filepath.Join(out, "*.[dr][ep][bm]"))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "run", "./packages", "-root", root, "-binary", binary, "-runs", h.binary,
		"-version", version, "-arch", p.arch, "-time", strconv.FormatInt(at.Unix(), 10), "-out", out)
	cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Join(root, "tools", "publish"), os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("packages: %w", err)
	}
	after, err := filepath.Glob(filepath.Join(out, "*.[dr][ep][bm]"))
	if err == nil && len(after) != len(before)+2 {
		err = errors.New("packages made no two files")
	}
	var names []string
	for _, file := range after {
		if !slices.Contains(before, file) {
			names = append(names, filepath.Base(file))
		}
	}
	return names, err
}
