// Command packages makes a deb and an rpm of a binary of the command, with its manual pages and shell completions. The same
// binary, version and time give the same bytes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// A build is what the packages are made of.
type build struct {
	root    string    // the directory of the tree
	binary  string    // the command, for linux/arch
	runs    string    // the command for this host, which prints manuals and completions
	version string    // "0.1.0"
	arch    string    // as Go names it
	at      time.Time // of every file
	out     string    // the directory of the packages
}

func main() {
	var b build
	flag.StringVar(&b.root, "root", "../..", "the `directory` of the tree")
	flag.StringVar(&b.binary, "binary", "", "the command for linux and -arch")
	flag.StringVar(&b.runs, "runs", "", "the command for this host")
	flag.StringVar(&b.version, "version", "", "the version, such as 0.1.0")
	flag.StringVar(&b.arch, "arch", "", "the architecture, such as amd64")
	at := flag.Int64("time", 0, "`seconds` since 1970: the time of the files")
	flag.StringVar(&b.out, "out", "", "the `directory` of the packages")
	flag.Parse()
	b.at = time.Unix(*at, 0).UTC()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	names, err := b.packages(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, strings.Join(names, "\n"))
}

// packages makes the packages and returns the names of their files.
func (b build) packages(ctx context.Context) (names []string, err error) {
	tmp, err := os.MkdirTemp("", "perdure-packages-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	if err := b.stage(ctx, tmp); err != nil {
		return nil, err
	}
	for _, format := range []string{"deb", "rpm"} {
		contents, err := b.contents(tmp, format)
		if err != nil {
			return names, err
		}
		name, err := b.pack(format, contents)
		if err != nil {
			return names, fmt.Errorf("%s: %w", format, err)
		}
		names = append(names, name)
	}
	return names, nil
}

// pack makes a package of that format.
func (b build) pack(format string, contents files.Contents) (name string, err error) {
	info := &nfpm.Info{
		Name: "perdure", Arch: b.arch, Platform: "linux", Version: b.version, Release: "1",
		Section: "utils", Priority: "optional", License: "Apache-2.0", MTime: b.at,
		Maintainer: "The Perdure authors <perdure@users.noreply.github.com>",
		Vendor:     "The Perdure authors",
		Homepage:   "https://github.com/seed-0f2c7998/perdure",
		Description: "retry commands, copies and requests without overload\n" +
			"Runs a command until it succeeds, copies files, web pages and S3 objects\n" +
			"through failures and verifies them, and retries the requests of programs in\n" +
			"any language, with circuit breakers that all processes of a host share.",
		Overridables: nfpm.Overridables{Contents: contents, RPM: nfpm.RPM{
			BuildHost: "localhost", Summary: "Retry commands, copies and requests without overload", Group: "Applications/System",
		}},
	}
	if format == "deb" {
		info.Release = ""
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		return "", err
	}
	info = nfpm.WithDefaults(info)
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return "", err
	}
	name = packager.ConventionalFileName(info)
	f, err := os.Create(filepath.Join(b.out, name))
	if err != nil {
		return "", err
	}
	return name, errors.Join(packager.Package(info, f), f.Close())
}

// stage writes below dir the files that are made for the packages, at the places where they are installed.
func (b build) stage(ctx context.Context, dir string) error {
	if err := b.run(ctx, nil, "man", "--dir", filepath.Join(dir, "usr/share/man")); err != nil {
		return err
	}
	for shell, file := range map[string]string{
		"bash": "bash-completion/completions/perdure",
		"zsh":  "zsh/vendor-completions/_perdure",
		"fish": "fish/vendor_completions.d/perdure.fish",
	} {
		var text strings.Builder
		if err := b.run(ctx, &text, "completion", shell); err != nil {
			return err
		}
		if err := save(filepath.Join(dir, "usr/share", file), []byte(text.String())); err != nil {
			return err
		}
	}
	if err := squeezeAll(filepath.Join(dir, "usr/share/man")); err != nil {
		return err
	}
	override := "# A static binary runs on every distribution.\nperdure: statically-linked-binary [usr/bin/perdure]\n"
	return errors.Join(
		save(filepath.Join(dir, "usr/share/lintian/overrides/perdure"), []byte(override)),
		b.documents(filepath.Join(dir, "usr/share/doc/perdure")),
	)
}

// run runs the command for this host.
func (b build) run(ctx context.Context, out *strings.Builder, args ...string) error {
	c := exec.CommandContext(ctx, b.runs, args...) //nolint:gosec // the binary that the caller names
	c.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(b.at.Unix(), 10))
	c.Stderr = os.Stderr
	if out != nil {
		c.Stdout = out
	}
	return c.Run()
}

// contents returns the files of a package of that format.
func (b build) contents(stage, format string) (all files.Contents, err error) {
	add := func(source, to, kind string, mode fs.FileMode) {
		all = append(all, &files.Content{Source: source, Destination: to, Type: kind, FileInfo: &files.ContentFileInfo{
			Owner: "root", Group: "root", Mode: mode, MTime: b.at,
		}})
	}
	add(b.binary, "/usr/bin/perdure", files.TypeFile, 0o755)
	if format == "rpm" {
		add(filepath.Join(b.root, "LICENSE"), "/usr/share/licenses/perdure/LICENSE", files.TypeRPMLicense, 0o644)
	}
	err = fs.WalkDir(os.DirFS(stage), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		to, kind := "/"+name, files.TypeFile
		if format == "rpm" {
			to, kind = ofRPM(to)
		}
		if to != "" {
			add(filepath.Join(stage, filepath.FromSlash(name)), to, kind, 0o644)
		}
		return nil
	})
	return all, err
}

// ofRPM returns the place and the type that a file of the stage has in an rpm. The place of what is only for Debian is "".
func ofRPM(to string) (place, kind string) {
	switch {
	case strings.HasPrefix(to, "/usr/share/lintian/"), path.Base(to) == "copyright", path.Base(to) == "changelog.gz":
		return "", ""
	case strings.HasPrefix(to, "/usr/share/man/"), strings.HasPrefix(to, "/usr/share/doc/"):
		return to, files.TypeRPMDoc
	}
	return strings.Replace(to, "/zsh/vendor-completions/", "/zsh/site-functions/", 1), files.TypeFile
}

func save(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // installed files are for everyone
		return err
	}
	return os.WriteFile(file, data, 0o644) //nolint:gosec // installed files are for everyone
}
