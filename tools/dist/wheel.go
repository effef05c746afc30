package main

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// metadata is the head of METADATA (core metadata 2.1), without Version; the text of python/README.md follows.
const metadata = `Metadata-Version: 2.1
Name: perdure
Version: %s
Summary: Calls that outlast failures, without making the failures worse
Project-URL: Source, https://github.com/seed-0f2c7998/perdure
Project-URL: Changelog, https://github.com/seed-0f2c7998/perdure/blob/main/CHANGELOG.md
License: Apache-2.0
Keywords: retry,circuit breaker,s3,dagster,copy,sync
Classifier: Environment :: Console
Classifier: License :: OSI Approved :: Apache Software License
Classifier: Operating System :: MacOS
Classifier: Operating System :: Microsoft :: Windows
Classifier: Operating System :: POSIX :: Linux
Classifier: Programming Language :: Python :: 3 :: Only
Classifier: Typing :: Typed
Requires-Python: >=3.9
Provides-Extra: dagster
Requires-Dist: dagster>=1.10; extra == "dagster"
Description-Content-Type: text/markdown

%s`

// packWheel makes a wheel (PEP 427) of the package python/perdure, with the module typed and the binary
// as a script: pip puts it on the PATH.
func packWheel(root, out, binary, version string, typed entry, p platform, at time.Time) (string, error) {
	info := "perdure-" + version + ".dist-info/"
	all, err := modules(root)
	if err != nil {
		return "", err
	}
	program := entry{name: "perdure-" + version + ".data/scripts/" + filepath.Base(binary), mode: 0o755}
	license := entry{name: info + "LICENSE", mode: 0o644}
	readme := entry{name: info + "METADATA", mode: 0o644}
	for _, f := range []struct {
		to   *entry
		path string
	}{{&program, binary}, {&license, filepath.Join(root, "LICENSE")}, {&readme, filepath.Join(root, "python", "README.md")}} {
		if f.to.data, err = os.ReadFile(f.path); err != nil {
			return "", err
		}
	}
	readme.data = fmt.Appendf(nil, metadata, version, readme.data)
	var tags strings.Builder
	for tag := range strings.SplitSeq(p.tags, ".") {
		fmt.Fprintf(&tags, "Tag: py3-none-%s\n", tag)
	}
	wheel := fmt.Appendf(nil, "Wheel-Version: 1.0\nGenerator: perdure\nRoot-Is-Purelib: false\n%s", tags.String())
	all = append(all, typed, program, license, readme, entry{info + "WHEEL", 0o644, wheel})
	all = append(all, entry{info + "RECORD", 0o644, record(all, info)})
	name := fmt.Sprintf("perdure-%s-py3-none-%s.whl", version, p.tags)
	return name, write(filepath.Join(out, name), func(w io.Writer) error { return writeZip(w, all, at) })
}

// modules reads the files of the package, in the order of their names.
func modules(root string) ([]entry, error) {
	var all []entry
	for _, pattern := range []string{"*.py", "py.typed"} {
		paths, err := filepath.Glob(filepath.Join(root, "python", "perdure", pattern))
		if err == nil && len(paths) == 0 {
			err = fmt.Errorf("no files %s in python/perdure", pattern)
		}
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			data, err := os.ReadFile(path) //nolint:gosec // a file of the tree
			if err != nil {
				return nil, err
			}
			all = append(all, entry{"perdure/" + filepath.Base(path), 0o644, data})
		}
	}
	return all, nil
}

// record returns the text of RECORD, which names each file of a wheel with its checksum and its size.
func record(all []entry, info string) []byte {
	var text strings.Builder
	for _, e := range all {
		sum := sha256.Sum256(e.data)
		fmt.Fprintf(&text, "%s,sha256=%s,%d\n", e.name, base64.RawURLEncoding.EncodeToString(sum[:]), len(e.data))
	}
	fmt.Fprintf(&text, "%sRECORD,,\n", info)
	return []byte(text.String())
}
