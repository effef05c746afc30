// Command dist builds the command for users without Go: archives with manual pages and checksums, deb and rpm packages, and
// Python wheels that contain the
// binary and the package python/perdure, which starts it. It writes to dist/.
//
// The same tree and version give the same bytes: files in an archive have the time of the commit.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	version := flag.String("version", "0.1.0", "the version to build")
	only := flag.String("only", "", "build for these platforms alone, as linux/amd64,darwin/arm64")
	wheels := flag.Bool("wheels", true, "build wheels as well")
	packages := flag.Bool("packages", true, "make deb and rpm packages of the Linux binaries as well")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, "..", *version, *only, *wheels, *packages); err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

// A platform has Go's names for a target, and the tags of its wheels.
type platform struct {
	os, arch string
	tags     string
}

// A static binary needs no libc, so it has both Linux tags. Go 1.26 needs macOS 12.
func platforms() []platform {
	return []platform{
		{"linux", "amd64", "manylinux_2_17_x86_64.manylinux2014_x86_64.musllinux_1_1_x86_64"},
		{"linux", "arm64", "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64"},
		{"darwin", "amd64", "macosx_12_0_x86_64"},
		{"darwin", "arm64", "macosx_12_0_arm64"},
		{"windows", "amd64", "win_amd64"},
		{"windows", "arm64", "win_arm64"},
	}
}

// binary is the name of the command on the platform.
func (p platform) binary() string {
	if p.os == "windows" {
		return "perdure.exe"
	}
	return "perdure"
}

func run(ctx context.Context, root, version, only string, wheels, packages bool) (err error) {
	if root, err = filepath.Abs(root); err != nil {
		return err
	}
	out := filepath.Join(root, "dist")
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	at := commitTime(ctx, root)
	tmp, err := os.MkdirTemp("", "perdure-dist-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	self, err := newHost(ctx, root, tmp, version, at)
	if err != nil {
		return err
	}
	var made []string
	for _, p := range platforms() {
		if only != "" && !strings.Contains(","+only+",", ","+p.os+"/"+p.arch+",") {
			continue
		}
		files, err := build(ctx, root, out, version, p, at, self, wheels, packages)
		if err != nil {
			return fmt.Errorf("%s/%s: %w", p.os, p.arch, err)
		}
		made = append(made, files...)
	}
	if len(made) == 0 {
		return fmt.Errorf("invalid value %q for -only: must be platforms as linux/amd64,darwin/arm64", only)
	}
	return checksums(out, made)
}

// build creates the files of one platform and returns their names.
func build(ctx context.Context, root, out, version string, p platform, at time.Time, self host, wheels, packages bool) ([]string, error) {
	tmp, err := os.MkdirTemp("", "perdure-dist-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // a temporary directory
	binary := filepath.Join(tmp, p.binary())
	if err := compile(ctx, root, binary, version, "GOOS="+p.os, "GOARCH="+p.arch); err != nil {
		return nil, err
	}
	archive, err := pack(root, out, binary, self.manuals, version, p, at)
	made := []string{archive}
	if err == nil && packages && p.os == "linux" {
		var more []string
		more, err = self.packages(ctx, root, out, binary, version, p, at)
		made = append(made, more...)
	}
	if err != nil || !wheels {
		return made, err
	}
	wheel, err := packWheel(root, out, binary, version, self.typed, p, at)
	return append(made, wheel), err
}

// commitTime returns when the tree was last committed; zip has no time before 1980.
func commitTime(ctx context.Context, root string) time.Time {
	cmd := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct")
	cmd.Dir = root
	text, err := cmd.Output()
	seconds, err2 := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || err2 != nil {
		return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return time.Unix(seconds, 0).UTC()
}
