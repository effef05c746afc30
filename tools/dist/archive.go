package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// An entry is one file of an archive.
type entry struct {
	name string
	mode os.FileMode
	data []byte
}

// entries reads the files that every archive has.
func entries(root, binary, dir string) ([]entry, error) {
	all := []entry{{name: dir + filepath.Base(binary), mode: 0o755}, {name: dir + "LICENSE", mode: 0o644}, {name: dir + "README.md", mode: 0o644}}
	for i, path := range []string{binary, filepath.Join(root, "LICENSE"), filepath.Join(root, "README.md")} {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		all[i].data = data
	}
	return all, nil
}

// pack makes the archive of a platform, with the manual pages of the directory manuals: a zip for Windows, a tar.gz for the rest.
func pack(root, out, binary, manuals, version string, p platform, at time.Time) (string, error) {
	base := fmt.Sprintf("perdure_%s_%s_%s", version, p.os, p.arch)
	all, err := entries(root, binary, base+"/")
	if err != nil {
		return "", err
	}
	pages, err := manualEntries(manuals, base+"/")
	if err != nil {
		return "", err
	}
	all = append(all, pages...)
	if p.os == "windows" {
		return base + ".zip", write(filepath.Join(out, base+".zip"), func(w io.Writer) error { return writeZip(w, all, at) })
	}
	return base + ".tar.gz", write(filepath.Join(out, base+".tar.gz"), func(w io.Writer) error { return writeTar(w, all, at) })
}

func writeZip(w io.Writer, all []entry, at time.Time) error {
	z := zip.NewWriter(w)
	for _, e := range all {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: at}
		h.SetMode(e.mode)
		f, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := f.Write(e.data); err != nil {
			return err
		}
	}
	return z.Close()
}

func writeTar(w io.Writer, all []entry, at time.Time) error {
	g := gzip.NewWriter(w)
	t := tar.NewWriter(g)
	for _, e := range all {
		h := &tar.Header{Name: e.name, Mode: int64(e.mode), Size: int64(len(e.data)), ModTime: at, Format: tar.FormatPAX}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(e.data); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), g.Close())
}

// checksums writes SHA256SUMS, as sha256sum checks it.
func checksums(out string, names []string) error {
	return write(filepath.Join(out, "SHA256SUMS"), func(w io.Writer) error {
		for _, name := range names {
			data, err := os.ReadFile(filepath.Join(out, name))
			if err != nil {
				return err
			}
			sum := sha256.Sum256(data)
			if _, err := fmt.Fprintf(w, "%s  %s\n", hex.EncodeToString(sum[:]), name); err != nil {
				return err
			}
		}
		return nil
	})
}

// write creates a file, calls fill to write it, and returns its name.
func write(path string, fill func(io.Writer) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fmt.Println(filepath.Base(path))
	return fill(f)
}
