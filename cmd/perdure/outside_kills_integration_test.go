//go:build integration && unix

package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// number returns the one in an environment variable, as `make kill` and `make long`
// set it, or another.
func number(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// A mortal is a command that is killed at random moments, and run again.
type mortal struct {
	*scene

	random *rand.Rand
	took   time.Duration // by a run that was not killed
	args   []string      // of perdure
	stdin  string        // a file; "" is none
}

func (m *mortal) command(t *testing.T) *exec.Cmd {
	t.Helper()
	c := command(t, m.environ, m.args...)
	if m.stdin != "" {
		f, err := os.Open(m.stdin)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		c.Stdin = f
	}
	return c
}

// die runs the command, and kills it at some moment, unless it has ended by then,
// which must be well. It reports whether it was killed.
func (m *mortal) die(t *testing.T) bool {
	t.Helper()
	c := m.command(t)
	var said strings.Builder
	c.Stderr = &said
	start(t, c)
	killer := time.AfterFunc(time.Duration(m.random.Int64N(int64(m.took)*5/4)), func() { _ = c.Process.Kill() })
	defer killer.Stop()
	_ = c.Wait() // its code tells
	if code := c.ProcessState.ExitCode(); code > 0 {
		t.Fatalf("%q: exit code %d\n%.2000s", m.args, code, said.String())
	}
	return !c.ProcessState.Exited()
}

// live runs the command to its end.
func (m *mortal) live(t *testing.T) {
	t.Helper()
	begun := time.Now()
	if e := endOf(t, m.command(t)); e.code != 0 {
		t.Fatalf("%q: %v", m.args, e)
	}
	m.took = time.Since(begun)
}

// stateLeft returns what the state directory has besides the shared breakers, known checksums, and records of what
// lists have copied.
func (m *mortal) stateLeft(t *testing.T) []string {
	t.Helper()
	left := slices.Collect(maps.Keys(below(t, filepath.Join(m.home, "state"))))
	lasting := regexp.MustCompile(`^(cells(\.\d+)?|checksums/\w+\.sums|urls/\w+\.jsonl)$`)
	return slices.DeleteFunc(left, lasting.MatchString)
}

// swept drops the uploads that are left in the store by the command that is for
// them, and returns how many there were. It is an error if one has a part: then it was not in the instant in which it
// was begun that its process was killed.
func (m *mortal) swept(t *testing.T) int {
	t.Helper()
	begun := m.store.Uploads()
	for _, r := range m.store.Requests() {
		if strings.HasPrefix(r.Operation, "UploadPart") && slices.ContainsFunc(begun, func(u s3test.Upload) bool { return u.ID == r.Query.Get("uploadId") }) {
			t.Errorf("an upload is left that got part %s of %s", r.Query.Get("partNumber"), r.Path)
		}
	}
	n := len(begun)
	if n > 0 {
		cleaned(t, m.environ, "0")
	}
	if left := m.store.Uploads(); len(left) > 0 {
		t.Fatalf("uploads are left: %v", left)
	}
	return n
}

// A killing is a kind of copy, of one file or of many, that is killed.
type killing struct {
	name string
	from string // a kind of source
	to   string // a kind of destination
	many bool
	sync bool // which deletes what the source has not
	list bool // the sources are in a file
}

func killings() []killing {
	return []killing{
		{name: "http to file", from: "http", to: "file"},
		{name: "s3 to file", from: "s3", to: "file"},
		{name: "file to s3", from: "file", to: "s3"},
		{name: "stdin to s3", from: "-", to: "s3"},
		{name: "s3 to s3", from: "s3", to: "s3"},
		{name: "http to s3", from: "http", to: "s3"},
		{name: "-r up", from: "file", to: "s3", many: true},
		{name: "-r down", from: "s3", to: "file", many: true},
		{name: "sync up", from: "file", to: "s3", many: true, sync: true},
		{name: "sync down", from: "s3", to: "file", many: true, sync: true},
		{name: "sync between stores", from: "s3", to: "s3", many: true, sync: true},
		{name: "--from-file to s3", from: "http", to: "s3", many: true, list: true},
		{name: "--from-file to a directory", from: "http", to: "file", many: true, list: true},
		{name: "run", from: "file", to: "run"},
	}
}

// prepared returns the command of that kind, what it is to bring, by names, and a
// function that returns what is there.
func (k killing) prepared(t *testing.T, m *mortal) (want map[string]string, there func() map[string]string) {
	t.Helper()
	want = map[string]string{"x": string(generated(map[bool]int{true: 17 << 20, false: 9 << 20}[k.many || k.to == "file"]))}
	if k.many {
		for i := range 12 {
			want[fmt.Sprintf("d%d/f%d", i%3, i)] = string(generated(i * i * 1000))
		}
		want[".x.part"], want["d0/.x.part.json"] = string(generated(9<<20)), "{}"
	}
	sources, prefix, kind, lines := filepath.Join(m.home, "from"), "", k.from, "URL,name\n"
	if k.many && !k.list {
		prefix, kind = "from/", "s3"
	}
	for name, content := range want {
		from := m.from(t, kind, prefix+name, []byte(content))
		m.args, lines = []string{"copy", from, m.to(k.to, "x")}, lines+from+","+name+"\n"
		if path := filepath.Join(sources, name); k.many && k.from == "file" {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, path, []byte(content))
		}
	}
	switch {
	case k.to == "run":
		m.args = []string{"run", "--name", "k", "--", "/bin/sh", "-c", `cp "$1" "$2.$$" && mv "$2.$$" "$2"`, "sh", filepath.Join(m.home, "from-x"), filepath.Join(m.dir, "x")}
	case k.many:
		from, to := sources, m.dir
		if k.from == "s3" {
			from = "s3://bikes/from"
		}
		if k.to == "s3" {
			to = "s3://bikes/to"
		}
		switch m.args = []string{"copy", "-r", from, to}; {
		case k.sync:
			m.args = []string{"sync", from, to, "--delete", "--max-delete", "24"}
		case k.list:
			m.args = []string{"copy", "--from-file", listFile(t, lines), to + "/"}
		}
	case k.from == "-":
		m.stdin = filepath.Join(m.home, "from-x")
	}
	if k.to == "s3" {
		return want, func() map[string]string { return m.objects("to/") }
	}
	return want, func() map[string]string { return below(t, m.dir) }
}

// emptied removes what a round has brought, and every other time puts an old file
// there.
func (k killing) emptied(t *testing.T, m *mortal, old bool) {
	t.Helper()
	for name := range m.objects("to/") {
		if _, err := m.client().DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("bikes"), Key: aws.String("to/" + name)}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := os.ReadDir(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range all {
		if err := os.RemoveAll(filepath.Join(m.dir, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	names := []string{"x", "d0/f0"}
	if k.sync { // these are to be deleted
		for i := range 12 {
			names = append(names, fmt.Sprintf("gone/%d", i), fmt.Sprintf("d0/g%d", i))
		}
	} else {
		names = names[:1]
	}
	for _, name := range names {
		path := filepath.Join(m.dir, name)
		switch {
		case !old:
			continue
		case k.to == "s3":
			err = m.store.Store("bikes", "to/"+name, []byte("old"))
		default:
			if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
				err = os.WriteFile(path, []byte("old"), 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// round kills the command some times, and has it end then. It returns how often it
// was killed, and how many uploads were left.
func (k killing) round(t *testing.T, m *mortal, want map[string]string, there func() map[string]string) (kills, uploads int) {
	t.Helper()
	k.emptied(t, m, m.random.IntN(2) == 0)
	for range 1 + m.random.IntN(3) {
		before := there()
		if m.die(t) {
			kills++
		}
		now := there()
		for name, content := range now {
			if want, ok := want[name]; ok && content != want && content != "old" {
				t.Fatalf("%s is neither old nor whole: %d bytes", name, len(content))
			}
		}
		for name := range before {
			_, wanted := want[name]
			if _, ok := now[name]; !ok && wanted {
				t.Fatalf("%s has gone", name)
			}
		}
	}
	m.live(t)
	if k.to == "run" { // its children live on
		eventually(t, "the children have ended", func() bool { return len(there()) == 1 })
	}
	sameAs(t, "there", there(), want)
	if k.list { // what is recorded outlives the kills, too
		if e := endOf(t, m.command(t)); e.code != 0 || !strings.Contains(e.log, "Copied 0 files") {
			t.Errorf("a run after all is copied: %v", e)
		}
	}
	if left := m.stateLeft(t); len(left) > 0 {
		t.Errorf("state is left: %q", left)
	}
	return kills, m.swept(t)
}

// Each kind of copy outlives being killed at any moment: what is there is old or
// whole, the same command again brings the rest, and nothing is left.
func TestKills(t *testing.T) {
	limit := number(t, "PERDURE_TEST_KILLS", 6)
	for _, k := range killings() {
		t.Run(k.name, func(t *testing.T) {
			seed := testseed.Of(t, 1)
			m := &mortal{scene: newScene(t), random: rand.New(rand.NewPCG(seed, 0))}
			m.environ = append(m.environ, "PERDURE_STORE=host")
			want, there := k.prepared(t, m)
			m.live(t)
			kills, uploads := 0, 0
			for range 4 * limit {
				if n, left := k.round(t, m, want, there); !t.Failed() && kills < limit {
					kills, uploads = kills+n, uploads+left
					continue
				}
				break
			}
			t.Logf("%d kills; %d uploads were left, for s3 clean", kills, uploads)
			most := 1 + kills/2
			if k.list {
				most *= 2 // two of its files are large enough
			}
			if kills < limit || uploads > most {
				t.Errorf("%d kills, want %d; %d uploads were left, want those alone that were begun in the instant of a kill", kills, limit, uploads)
			}
		})
	}
}
