//go:build integration && unix

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is beside DST is replaced while we write: either the right bytes arrive,
// or none, and an error tells.
func TestReplacedWhileWeWrite(t *testing.T) {
	for _, kind := range []string{"http", "s3"} {
		for name, replace := range map[string]func(path, victim string) error{
			"a file":      func(path, _ string) error { return os.WriteFile(path, bytes.Repeat([]byte("EVIL"), 6<<20), 0o600) },
			"a link":      func(path, victim string) error { return os.Symlink(victim, path) },
			"a hard link": func(path, victim string) error { return os.Link(victim, path) },
			"a directory": func(path, _ string) error { return os.Mkdir(path, 0o700) },
			"nothing":     func(string, string) error { return nil },
		} {
			t.Run(kind+", "+name, func(t *testing.T) {
				t.Parallel()
				h := newHalfway(t, kind)
				victim := filepath.Join(t.TempDir(), "victim")
				write(t, victim, []byte("precious"))
				var said bytes.Buffer
				c := h.begin(t, &said)
				for _, path := range h.kept(t) {
					if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
						t.Fatal(err)
					}
					if err := replace(path, victim); err != nil && !os.IsExist(err) {
						t.Fatal(err)
					}
				}
				h.hold.Store(0)
				_ = c.Wait() // its code tells
				got, err := os.ReadFile(h.to)
				if code := c.ProcessState.ExitCode(); code == 0 && !bytes.Equal(got, h.content) || code != 0 && !os.IsNotExist(err) || code < 0 {
					t.Errorf("exit code %d, %d bytes, the right ones: %v (%v)\n%s", code, len(got), bytes.Equal(got, h.content), err, &said)
				}
				if content, _ := os.ReadFile(victim); string(content) != "precious" {
					t.Errorf("the victim has %d bytes now", len(content))
				}
			})
		}
	}
}

// DST becomes another file while we write: it is left alone, and an error names it.
func TestDSTIsReplacedWhileWeWrite(t *testing.T) {
	for _, kind := range []string{"http", "s3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := newHalfway(t, kind)
			write(t, h.to, []byte("old"))
			var said bytes.Buffer
			c := h.begin(t, &said)
			other := filepath.Join(t.TempDir(), "other")
			write(t, other, []byte("the work of another process"))
			if err := os.Rename(other, h.to); err != nil {
				t.Fatal(err)
			}
			h.hold.Store(0)
			_ = c.Wait() // its code tells
			content, _ := os.ReadFile(h.to)
			if code := c.ProcessState.ExitCode(); code != 1 || string(content) != "the work of another process" || !strings.Contains(said.String(), h.to) {
				t.Errorf("exit code %d, %d bytes; want 1, the other file, and its name in\n%s", code, len(content), &said)
			}
		})
	}
}

// What is gone is not said to be kept.
func TestNothingIsKeptThatIsGone(t *testing.T) {
	for _, kind := range []string{"http", "s3"} {
		for _, all := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, the directory as well: %v", kind, all), func(t *testing.T) {
				t.Parallel()
				h := newHalfway(t, kind)
				var said bytes.Buffer
				c := h.begin(t, &said)
				for _, path := range h.kept(t) {
					_ = os.Remove(path)
				}
				if all {
					_ = os.RemoveAll(h.dir)
				}
				if err := c.Process.Signal(os.Interrupt); err != nil {
					t.Fatal(err)
				}
				interrupted(t, c, &said, 130)
				if strings.Contains(said.String(), "are kept") {
					t.Errorf("it says that it keeps what is gone:\n%s", &said)
				}
			})
		}
	}
}

// What a killed copy has left is no file of the user's: it does not go up with
// the others, and is gone when the same command has ended.
func TestLeftoversDoNotGoUp(t *testing.T) {
	for _, kind := range []string{"http", "s3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := newHalfway(t, kind)
			write(t, filepath.Join(h.dir, "mine"), []byte("mine"))
			h.kill(t)
			if e := copyEnds(t, h.environ, "-r", h.dir, "s3://bikes/up"); e.code != 0 {
				t.Errorf("%v", e)
			}
			sameAs(t, "up", h.objects("up/"), map[string]string{"mine": "mine"})
			if e := copyEnds(t, h.environ, h.from, h.to); e.code != 0 {
				t.Errorf("%v", e)
			}
			sameAs(t, "there", below(t, h.dir), map[string]string{"mine": "mine", "x.bin": string(h.content)})
		})
	}
}
