package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// documents writes the files that each package of Debian has.
func (b build) documents(dir string) error {
	changes, err := os.ReadFile(filepath.Join(b.root, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	copyright := "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n" +
		"Upstream-Name: perdure\nSource: https://github.com/seed-0f2c7998/perdure\n\n" +
		"Files: *\nCopyright: 2026 The Perdure authors\nLicense: Apache-2.0\n" +
		" On Debian systems, the text of the Apache License version 2.0 is in\n" +
		" /usr/share/common-licenses/Apache-2.0.\n"
	entry := fmt.Sprintf("perdure (%s) unstable; urgency=medium\n\n  * See changelog.md.gz for the changes of all versions.\n\n"+
		" -- The Perdure authors <perdure@users.noreply.github.com>  %s\n", b.version, b.at.Format(time.RFC1123Z))
	return errors.Join(
		save(filepath.Join(dir, "copyright"), []byte(copyright)),
		squeeze(filepath.Join(dir, "changelog.gz"), []byte(entry)),
		squeeze(filepath.Join(dir, "changelog.md.gz"), changes),
	)
}

// squeezeAll compresses each file below dir, and removes the original.
func squeezeAll(dir string) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(file) //nolint:gosec // a file that this program wrote
		if err != nil {
			return err
		}
		return errors.Join(squeeze(file+".gz", data), os.Remove(file))
	})
}

// squeeze writes data to a gzip file, without a name and a time in its header.
func squeeze(file string, data []byte) error {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	return save(file, out.Bytes())
}
