//go:build integration && unix

package main

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// drawn returns the files of a tree, by their names, which are those that the
// command itself might give, and those that files have rarely.
func drawn(random *rand.Rand) map[string]string {
	base := []string{"x", "x.bin", "a b", "ä", "日本", "-dash", "--", "-r", "new\nline", "*", "%41", "a+b", "cells", "owner", "m.jsonl", "~", "..x", "x.", strings.Repeat("n", 200), strings.Repeat("日", 80)}
	decorated := []string{"%s", "%s", "%s.part", ".%s.part", ".%s.part.json", ".%s.part.json.new", "%s.part.json", ".%s", ".%s.part.part", ".%s.new", ".perdure-%s", ".perdure-UZYOBUUQNDKWMPHMHGFPOJZES5%.0s"}
	name := func() string {
		return fmt.Sprintf(decorated[random.IntN(len(decorated))], base[random.IntN(len(base))])
	}
	files, large := make(map[string]string), 2
	var fill func(dir string, depth int)
	fill = func(dir string, depth int) {
		taken := make(map[string]bool)
		for range 1 + random.IntN(9) {
			entry := name()
			switch {
			case taken[entry] || len(dir)+len(entry) > 900: // a key has 1,024
			case depth < 3 && random.IntN(4) == 0:
				fill(dir+entry+"/", depth+1)
			default:
				files[dir+entry] = content(random, &large)
			}
			taken[entry] = true
		}
	}
	fill("", 0)
	return files
}

// content returns that of a file: most are small, and few are large.
func content(random *rand.Rand, large *int) string {
	size := random.IntN(3000)
	switch n := random.IntN(40); {
	case n < 4:
		size = 0
	case n < 6:
		size = random.IntN(300_000)
	case n < 8 && *large > 0:
		*large--
		size = []int{8<<20 + 1, 16<<20 + 1}[random.IntN(2)] + random.IntN(1<<20)
	}
	bytes := generated(size)
	for i := range min(size, 8) {
		bytes[i] = byte(random.Uint32())
	}
	return string(bytes)
}

// outlives runs the command, kills it up to three times, and has it end.
func (m *mortal) outlives(t *testing.T, args ...string) (kills int) {
	t.Helper()
	m.args = append([]string{"copy", "-r"}, args...)
	for range m.random.IntN(4) {
		if m.die(t) {
			kills++
		}
	}
	m.live(t)
	if left := m.stateLeft(t); len(left) > 0 {
		t.Errorf("state is left: %q, after %d kills of %q; uploads %v", left, kills, m.args, m.store.Uploads())
		for _, name := range left {
			content, _ := os.ReadFile(filepath.Join(m.home, "state", name))
			t.Logf("%s: %.400s", name, content)
		}
		t.FailNow()
	}
	return kills
}

// Trees of any names go up, down and up again, while they are killed, and are the
// same each time; nothing is left of what did not end.
func TestTreesOutliveKills(t *testing.T) {
	rounds := number(t, "PERDURE_TEST_ROUNDS", 20)
	seed := testseed.Of(t, 1)
	kills, files := 0, 0
	for round := range rounds {
		random := rand.New(rand.NewPCG(seed, uint64(round)))
		m := &mortal{scene: newScene(t), random: random}
		m.environ = append(m.environ, "PERDURE_STORE=host")
		want := drawn(random)
		from, back := filepath.Join(m.dir, "from"), filepath.Join(m.dir, "back")
		planted(t, from, want)
		m.args = []string{"copy", m.from(t, "file", "first", nil), "s3://bikes/first"} // it makes the file of the breakers
		m.live(t)
		m.took = 150 * time.Millisecond
		for _, way := range [][]string{{from, "s3://bikes/up"}, {"s3://bikes/up", back}, {back, "s3://bikes/again"}} {
			kills += m.outlives(t, way...)
		}
		sameAs(t, "what went up", below(t, from), want)
		sameAs(t, "up", m.objects("up/"), want)
		sameAs(t, "down", below(t, back), want)
		sameAs(t, "up again", m.objects("again/"), want)
		m.swept(t)
		if files += len(want); t.Failed() {
			t.Fatalf("PERDURE_TEST_SEED=%d, round %d", seed, round)
		}
	}
	t.Logf("PERDURE_TEST_SEED=%d: %d rounds, %d files, %d kills", seed, rounds, files, kills)
}

// some links up to n regular files below a directory into another one, or copies
// them.
func some(t *testing.T, from, to string, n int) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.Contains(path, "/cache/lock") {
			return err
		}
		if n--; n < 0 {
			return filepath.SkipAll
		}
		name, _ := filepath.Rel(from, path)
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(name)), 0o700); err != nil {
			return err
		}
		if os.Link(path, filepath.Join(to, name)) == nil {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), content, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Real trees go there and back, killed in between: byte for byte, and the second
// time nothing is copied. `make long` runs it.
func TestRealTrees(t *testing.T) {
	if number(t, "PERDURE_TEST_LONG", 0) == 0 {
		t.Skip("SKIPPED: the real trees take minutes: make long")
	}
	modules, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Skipf("SKIPPED: no go command: %v", err)
	}
	for name, dir := range map[string]string{"a Go module cache": strings.TrimSpace(string(modules)), "documents": "/usr/share/doc"} {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat(dir); err != nil {
				t.Skipf("SKIPPED: %v", err)
			}
			seed := testseed.Of(t, 1)
			m := &mortal{scene: newScene(t), random: rand.New(rand.NewPCG(seed, 0)), took: 4 * time.Second}
			m.environ = append(m.environ, "PERDURE_STORE=host")
			if name == "a Go module cache" {
				from := filepath.Join(m.home, "modules")
				some(t, dir, from, 15_000)
				dir = from
			}
			want := below(t, dir)
			maps.DeleteFunc(want, func(name, _ string) bool {
				info, err := os.Lstat(filepath.Join(dir, name))
				return err != nil || !info.Mode().IsRegular()
			})
			back := filepath.Join(m.dir, "back")
			ways := [][]string{{"--links", "skip", dir, "s3://bikes/up"}, {"s3://bikes/up", back}}
			for _, way := range ways {
				t.Logf("PERDURE_TEST_SEED=%d: %d files, %q, %d kills", seed, len(want), way, m.outlives(t, way...))
			}
			sameAs(t, "up", m.objects("up/"), want)
			sameAs(t, "back", below(t, back), want)
			for i, way := range ways {
				m.store.Reset()
				m.args = append([]string{"copy", "-r"}, way...)
				m.live(t)
				if n := m.store.Count([]string{"PUT", "GET"}[i], "/bikes/up/"); n > 0 {
					t.Errorf("%q: %d files are copied again", way, n)
				}
			}
			m.swept(t)
		})
	}
}
