package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Each wheel has the tags of its platform, the package with its marker of types, and a binary that pip makes executable;
// RECORD has the checksum of each file; the same tree gives the same bytes.
func TestWheel(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)
	tag := map[string]string{
		"linux/amd64": `manylinux_2_17_x86_64\.manylinux2014_x86_64\.musllinux_1_1_x86_64`, "linux/arm64": `manylinux_2_17_aarch64\.manylinux2014_aarch64\.musllinux_1_1_aarch64`,
		"darwin/amd64": `macosx_12_0_x86_64`, "darwin/arm64": `macosx_12_0_arm64`, "windows/amd64": `win_amd64`, "windows/arm64": `win_arm64`,
	}
	for _, p := range platforms() {
		t.Run(p.os+"/"+p.arch, func(t *testing.T) {
			binary := filepath.Join(t.TempDir(), p.binary())
			if err := os.WriteFile(binary, []byte("the binary"), 0o600); err != nil {
				t.Fatal(err)
			}
			name, data := wheelOf(t, binary, p, at)
			again, same := wheelOf(t, binary, p, at)
			if name != again || !bytes.Equal(data, same) {
				t.Error("two wheels of one tree differ")
			}
			if !regexp.MustCompile(`^perdure-1\.2\.3-py3-none-` + tag[p.os+"/"+p.arch] + `\.whl$`).MatchString(name) {
				t.Errorf("the wheel is named %s", name)
			}
			files := contents(t, data)
			for _, want := range []string{"perdure/__init__.py", "perdure/dagster.py", "perdure/_flags.py", "perdure/py.typed", "perdure-1.2.3.data/scripts/" + p.binary()} {
				if _, ok := files[want]; !ok {
					t.Errorf("the wheel has no %s", want)
				}
			}
			for each := range strings.SplitSeq(p.tags, ".") {
				if want := "Tag: py3-none-" + each + "\n"; !strings.Contains(files["perdure-1.2.3.dist-info/WHEEL"], want) {
					t.Errorf("WHEEL has no %q", want)
				}
			}
			checkMetadata(t, files["perdure-1.2.3.dist-info/METADATA"])
		})
	}
}

func wheelOf(t *testing.T, binary string, p platform, at time.Time) (name string, data []byte) {
	t.Helper()
	out := t.TempDir()
	name, err := packWheel("../..", out, binary, "1.2.3", entry{"perdure/_flags.py", 0o644, []byte(flagsHead)}, p, at)
	if err != nil {
		t.Fatal(err)
	}
	data, err = os.ReadFile(filepath.Join(out, name)) //nolint:gosec // a file of the test
	if err != nil {
		t.Fatal(err)
	}
	return name, data
}

// contents returns the files of a wheel, after comparing them with RECORD.
func contents(t *testing.T, wheel []byte) map[string]string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(wheel), int64(len(wheel)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	var rows []string
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[f.Name] = string(text)
		sum := sha256.Sum256(text)
		row := fmt.Sprintf("%s,sha256=%s,%d", f.Name, base64.RawURLEncoding.EncodeToString(sum[:]), len(text))
		if path.Base(f.Name) == "RECORD" {
			row = f.Name + ",,"
		}
		rows = append(rows, row)
		if script := strings.Contains(f.Name, "/scripts/"); script != (f.Mode()&0o111 != 0) {
			t.Errorf("%s has mode %v", f.Name, f.Mode())
		}
	}
	recorded := strings.Split(strings.TrimSpace(files["perdure-1.2.3.dist-info/RECORD"]), "\n")
	slices.Sort(rows)
	slices.Sort(recorded)
	if !slices.Equal(rows, recorded) {
		t.Errorf("RECORD has\n%s\nwant\n%s", strings.Join(recorded, "\n"), strings.Join(rows, "\n"))
	}
	return files
}

// checkMetadata: dagster is optional, and the description can be shown on an index, where no relative link leads anywhere.
func checkMetadata(t *testing.T, text string) {
	t.Helper()
	head, readme, _ := strings.Cut(text, "\n\n")
	for _, want := range []string{"Version: 1.2.3", "Description-Content-Type: text/markdown", "Requires-Python: >=3.9", "Provides-Extra: dagster", `Requires-Dist: dagster>=1.10; extra == "dagster"`} {
		if !slices.Contains(strings.Split(head, "\n"), want) {
			t.Errorf("METADATA has no line %q:\n%s", want, head)
		}
	}
	if requires := regexp.MustCompile(`(?m)^Requires-Dist: .*$`).FindAllString(head, -1); len(requires) != 1 {
		t.Errorf("METADATA requires %q", requires)
	}
	for _, link := range regexp.MustCompile(`\]\(([^)]*)\)`).FindAllStringSubmatch(readme, -1) {
		if !strings.HasPrefix(link[1], "https://") {
			t.Errorf("the description links to %s, which an index cannot resolve", link[1])
		}
	}
}
