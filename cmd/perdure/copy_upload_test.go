//go:build unix

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// A pairing is a large file, and the object that it is to become, in a store.
type pairing struct {
	*testServers

	environ  []string
	from, to string
	uploads  string // the directory with what is known of uploads
}

func newPairing(t *testing.T, content []byte) *pairing {
	t.Helper()
	home := t.TempDir()
	p := &pairing{
		testServers: startTestServers(t), from: filepath.Join(home, "large.bin"), to: "s3://bikes/large.bin",
		uploads: filepath.Join(home, "state", "uploads"),
	}
	p.environ = p.testServers.environ(home)
	write(t, p.from, content)
	return p
}

// run runs the command and checks its code, and returns what it says.
func (p *pairing) run(t *testing.T, want int, args ...string) string {
	t.Helper()
	var log bytes.Buffer
	c := command(t, p.environ, args...)
	c.Stderr = &log
	_ = start(t, c).Wait() // its code tells
	if got := c.ProcessState.ExitCode(); got != want {
		t.Fatalf("%q: exit code %d, want %d\n%s", args, got, want, &log)
	}
	return withoutProgress(log.String())
}

// withoutProgress returns a log without the lines that a copy writes each 10 seconds, on a slow machine.
func withoutProgress(log string) string {
	return regexp.MustCompile(`(?m)^INFO: Copying .*\n`).ReplaceAllString(log, "")
}

// refuse has the store response requests for the last of three parts with a fault.
func (p *pairing) refuse(fault s3test.Fault) {
	p.store.SetScript(func(r s3test.Request) s3test.Fault {
		if r.Query.Get("partNumber") == "3" {
			return fault
		}
		return s3test.Fault{}
	})
}

// stop runs a copy that the store does not let end, and leaves two of its parts.
func (p *pairing) stop(t *testing.T) {
	t.Helper()
	p.refuse(s3test.SlowDown())
	log := p.run(t, 69, "copy", "--parallel", "1", p.from, p.to)
	p.store.SetScript(nil)
	const want = ": 503 SlowDown: .*; 16.0 MiB of 20.0 MiB are kept in the store; run the same command to resume\n$"
	if !regexp.MustCompile(want).MatchString(log) || len(p.store.Uploads()) != 1 || p.remembered() != 2 {
		t.Fatalf("uploads %v, %d files of state, want one and two; it says\n%s", p.store.Uploads(), p.remembered(), log)
	}
	p.store.Reset()
}

// remembered returns how many files of state there are.
func (p *pairing) remembered() int {
	files, _ := os.ReadDir(p.uploads)
	return len(files)
}

// sent returns the parts that came in.
func (p *pairing) sent() (parts []string) {
	for _, r := range p.store.Requests() {
		if n := r.Query.Get("partNumber"); n != "" && r.Method == "PUT" {
			parts = append(parts, n)
		}
	}
	slices.Sort(parts)
	return parts
}

// settled checks that the object is there, and nothing else is.
func (p *pairing) settled(t *testing.T, content []byte) {
	t.Helper()
	if got, _ := p.store.Object("bikes", "large.bin"); !bytes.Equal(got, content) {
		t.Errorf("the store has %d other bytes, want %d", len(got), len(content))
	}
	if left := p.store.Uploads(); len(left) > 0 || p.remembered() > 0 {
		t.Errorf("uploads %v and %d files of state are left", left, p.remembered())
	}
}

// mib20 returns the content of a file of three parts. It is made when it is
// needed: the command is this binary, too, and its memory is measured.
var mib20 = sync.OnceValue(func() []byte { return generated(20 << 20) })

// What was given up is resumed: the part that is missing is sent, and the
// bar begins where it was.
func TestUploadResumes(t *testing.T) {
	p := newPairing(t, mib20())
	p.stop(t)
	log := p.run(t, 0, "copy", p.from, p.to, "--json")
	for _, want := range []string{
		`"message":"Resuming s3://bikes/large.bin: 16.0 MiB of 20.0 MiB already transferred","event":"continued","bytes":16777216,"total":20971520`, `"event":"copied"`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("it does not say %s:\n%s", want, log)
		}
	}
	if got := p.sent(); !slices.Equal(got, []string{"3"}) {
		t.Errorf("parts %q were sent, want the third", got)
	}
	p.settled(t, mib20())
}

// A source that has changed is sent from scratch, and what was sent of the old one is
// dropped: nothing is put together from two.
func TestChangedSourceIsSentFromScratch(t *testing.T) {
	longer := append(slices.Clone(mib20()), "more"...)
	for name, content := range map[string][]byte{"longer": longer, "touched": mib20(), "small": mib20()[:1000]} {
		t.Run(name, func(t *testing.T) {
			p := newPairing(t, mib20())
			p.stop(t)
			write(t, p.from, content)
			later := time.Now().Add(time.Minute)
			if err := os.Chtimes(p.from, later, later); err != nil {
				t.Fatal(err)
			}
			log := p.run(t, 0, "copy", p.from, p.to)
			if want := "INFO: " + p.from + " is copied from scratch: the file has changed since the earlier run\n"; !strings.Contains(log, want) {
				t.Errorf("it does not say %q:\n%s", want, log)
			}
			if got := p.store.Count("DELETE", ""); got != 1 {
				t.Errorf("%d requests to drop the old upload, want 1", got)
			}
			p.settled(t, content)
		})
	}
}

// A byte of what a run has written about its upload may be another by the next: that one begins from scratch, with one line,
// or resumes from the parts whose records are as they were. It used to fail, or to begin another upload beside the first.
func TestUploadAfterAnAlteredState(t *testing.T) {
	const (
		damaged = "INFO: %s is copied from scratch: the state of the earlier run is damaged"
		cut     = 1 << 20 // it is empty
	)
	for name, c := range map[string]struct {
		file string
		at   int // less than 0: from the end
		says string
	}{
		"its source":                 {"*.json", 5, damaged},
		"the end of its source":      {"*.json", -1, damaged},
		"the very first byte":        {"*.parts", 0, damaged},
		"the name of the format":     {"*.parts", 15, damaged},
		"the version of the format":  {"*.parts", 27, damaged},
		"the address":                {"*.parts", 50, damaged},
		"nothing left of it":         {"*.parts", cut, damaged},
		"the last part":              {"*.parts", -20, "INFO: Resuming s3://bikes/large.bin: 8.0 MiB of 20.0 MiB"},
		"the end of the last record": {"*.parts", -1, "INFO: Resuming s3://bikes/large.bin: 8.0 MiB of 20.0 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPairing(t, mib20())
			p.stop(t)
			names, _ := filepath.Glob(filepath.Join(p.uploads, c.file))
			text, err := os.ReadFile(strings.Join(names, ""))
			if err != nil {
				t.Fatal(err)
			}
			if c.at == cut {
				text = nil
			} else {
				text[(c.at+len(text))%len(text)] ^= 1
			}
			write(t, names[0], text)
			log := p.run(t, 0, "copy", p.from, p.to)
			want := strings.ReplaceAll(c.says, "%s", p.from)
			if first, _, _ := strings.Cut(log, "\n"); !strings.HasPrefix(first, want) || strings.Count(log, "\n") != 2 {
				t.Errorf("want a line of the copy after %q:\n%s", want, log)
			}
			if got, _ := p.store.Object("bikes", "large.bin"); !bytes.Equal(got, mib20()) || p.remembered() > 0 {
				t.Errorf("the store has %d other bytes, and there are %d files of state", len(got), p.remembered())
			}
			if left := len(p.store.Uploads()) > 0; left != strings.Contains(log, `remove them with "perdure s3 clean s3://bikes/large.bin"`) {
				t.Errorf("parts are left: %v; want a line that says so then, and only then:\n%s", left, log)
			}
			p.run(t, 0, "s3", "clean", "--older-than", "0", "s3://bikes/large.bin")
			p.settled(t, mib20())
		})
	}
}

// drop aborts an upload as others may.
func (p *pairing) drop(t *testing.T, u s3test.Upload) {
	t.Helper()
	if _, err := p.client().AbortMultipartUpload(t.Context(), &s3.AbortMultipartUploadInput{Bucket: &u.Bucket, Key: &u.Key, UploadId: &u.ID}); err != nil {
		t.Fatal(err)
	}
}

// What the store has forgotten is sent again, and that is told.
func TestForgottenUploadIsSentFromScratch(t *testing.T) {
	p := newPairing(t, mib20())
	p.stop(t)
	for _, u := range p.store.Uploads() {
		p.drop(t, u)
	}
	log := p.run(t, 0, "copy", p.from, p.to)
	if want := "INFO: " + p.from + " is copied from scratch: the store no longer has the parts of the earlier run\n"; !strings.Contains(log, want) {
		t.Errorf("it does not say %q:\n%s", want, log)
	}
	p.settled(t, mib20())
}

// With --no-resume what an earlier run has left is dropped, and nothing is left,
// though the breaker is open by then.
func TestNoResume(t *testing.T) {
	p := newPairing(t, mib20())
	p.stop(t)
	p.refuse(s3test.SlowDown())
	log := p.run(t, 69, "copy", p.from, p.to, "--no-resume", "--parallel", "1")
	if left := p.store.Uploads(); len(left) > 0 || p.remembered() > 0 || strings.Contains(log, "kept") {
		t.Errorf("uploads %v and %d files of state are left:\n%s", left, p.remembered(), log)
	}
	p.store.SetScript(nil)
	p.run(t, 0, "copy", p.from, p.to, "--no-resume")
	p.settled(t, mib20())
}

// What would fail again leaves nothing to resume; but what the store will
// not drop is kept.
func TestRefusedUploadLeavesNothing(t *testing.T) {
	p := newPairing(t, mib20())
	p.refuse(s3test.AccessDenied())
	if log := p.run(t, 1, "copy", p.from, p.to, "--parallel", "1"); strings.Contains(log, "kept") {
		t.Errorf("it says that something is kept:\n%s", log)
	}
	if left := p.store.Uploads(); len(left) > 0 || p.remembered() > 0 {
		t.Errorf("uploads %v and %d files of state are left", left, p.remembered())
	}
	p.store.SetScript(func(r s3test.Request) s3test.Fault {
		if r.Query.Get("partNumber") == "3" || r.Method == "DELETE" {
			return s3test.Failure(400, "ExpiredToken")
		}
		return s3test.Fault{}
	})
	if log := p.run(t, 1, "copy", p.from, p.to, "--parallel", "1"); !strings.Contains(log, "16.0 MiB of 20.0 MiB are kept in the store") {
		t.Errorf("it does not say that something is kept:\n%s", log)
	}
	p.store.SetScript(nil)
	p.store.Reset()
	p.run(t, 0, "copy", p.from, p.to)
	if got := p.sent(); !slices.Equal(got, []string{"3"}) {
		t.Errorf("parts %q were sent, want the third", got)
	}
	p.settled(t, mib20())
}

// A file that changes while it is sent: what can't be right fails and leaves
// nothing, and is told to be of the file; what may hold some of both is told.
func TestMovingSource(t *testing.T) {
	for _, c := range []struct {
		name   string
		code   int
		change func(path string) error
		says   string
	}{
		{"shorter", 1, func(path string) error { return os.Truncate(path, 1000) }, "perdure: read %s: source changed during upload\n"},
		{"longer", 0, func(path string) error { return os.Truncate(path, 30<<20) }, "WARN: %s changed while it was sent: the copy may mix old and new content\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPairing(t, mib20())
			var once sync.Once
			p.store.SetScript(func(r s3test.Request) s3test.Fault {
				if r.Query.Get("partNumber") == "1" {
					once.Do(func() {
						if err := c.change(p.from); err != nil {
							t.Error(err)
						}
					})
				}
				return s3test.Fault{}
			})
			log := p.run(t, c.code, "copy", "--parallel", "1", p.from, p.to)
			if want := fmt.Sprintf(c.says, p.from); !strings.Contains(log, want) {
				t.Errorf("it does not say %q:\n%s", want, log)
			}
			if c.code == 0 {
				p.settled(t, mib20())
				return
			}
			p.settled(t, nil)
		})
	}
}

// A large file among many continues as one alone does, either way.
func TestTreeResumes(t *testing.T) {
	p := newPairing(t, mib20())
	dir := filepath.Dir(p.from)
	up := filepath.Join(dir, "up")
	if err := os.Mkdir(up, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(up, "large.bin"), mib20())
	write(t, filepath.Join(up, "small"), []byte("small"))
	p.store.SetScript(func(r s3test.Request) s3test.Fault {
		if r.Query.Get("partNumber") != "3" {
			return s3test.Fault{}
		}
		eventually(t, "the others are written down", func() bool {
			names, _ := filepath.Glob(filepath.Join(p.uploads, "*.parts"))
			parts, _ := written(strings.Join(names, ""))
			return len(parts) == 2
		})
		return s3test.SlowDown()
	})
	p.run(t, 69, "copy", "-r", up, "s3://bikes/")
	p.store.SetScript(nil)
	p.store.Reset()
	log := p.run(t, 0, "copy", "-r", up, "s3://bikes/")
	if got := p.sent(); !slices.Equal(got, []string{"3"}) || !strings.Contains(log, "Resuming s3://bikes/large.bin: 16.0 MiB of 20.0 MiB") {
		t.Errorf("parts %q were sent, want the third:\n%s", got, log)
	}
	p.settled(t, mib20())

	down := filepath.Join(dir, "down")
	p.store.SetScript(func(r s3test.Request) s3test.Fault {
		switch from := r.Header.Get("Range"); {
		case from != "":
			eventually(t, "the first piece is written down", func() bool {
				parts, _ := written(strings.Join(staged(down, ".state"), ""))
				return len(parts) == 1
			})
			return s3test.SlowDown()
		case strings.HasSuffix(r.Path, "/large.bin"):
			return s3test.CutBody(9 << 20)
		}
		return s3test.Fault{}
	})
	p.run(t, 69, "copy", "-r", "s3://bikes/", down)
	_, there := written(strings.Join(staged(down, ".state"), ""))
	p.store.SetScript(nil)
	p.store.Reset()
	log = p.run(t, 0, "copy", "-r", "s3://bikes/", down)
	if !strings.Contains(log, fmt.Sprintf("Resuming s3://bikes/large.bin: %s of 20.0 MiB", report.Bytes(there))) || there < part {
		t.Errorf("it does not say that it resumes %d bytes:\n%s", there, log)
	}
	if came, err := os.ReadFile(filepath.Join(down, "large.bin")); err != nil || !bytes.Equal(came, mib20()) {
		t.Errorf("%d other bytes arrived (%v)", len(came), err)
	}
	if left, _ := os.ReadDir(down); len(left) != 2 {
		t.Errorf("%v are there, want two files", left)
	}
}

// Two processes that send one file to one place have an upload each.
func TestTwoUploadsOfOneFile(t *testing.T) {
	p := newPairing(t, mib20())
	ended := make(chan struct{}) // the second has ended: until then no part arrives, so the first runs
	end := sync.OnceFunc(func() { close(ended) })
	defer end()
	p.store.SetScript(func(r s3test.Request) s3test.Fault {
		if r.Operation == "UploadPart" {
			<-ended
		}
		return s3test.Fault{}
	})
	first, second := command(t, p.environ, "copy", p.from, p.to), command(t, p.environ, "copy", p.from, p.to)
	start(t, first)
	eventually(t, "the first has begun", func() bool { return len(p.store.Uploads()) == 1 })
	start(t, second)
	eventually(t, "so has the second", func() bool { return len(p.store.Uploads()) == 2 })
	if err := second.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	interrupted(t, second, new(bytes.Buffer), 130)
	end()
	interrupted(t, first, new(bytes.Buffer), 0)
	p.settled(t, mib20())
}

// What an interrupt leaves is resumed, or cleaned away with what is known of
// it.
func TestInterruptedUpload(t *testing.T) {
	p := newPairing(t, mib20())
	p.refuse(s3test.SlowResponse(time.Minute))
	var log bytes.Buffer
	c := command(t, p.environ, "copy", "--parallel", "1", p.from, p.to)
	c.Stderr = &log
	start(t, c)
	eventually(t, "two parts are there", func() bool { return len(p.sent()) == 3 })
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	interrupted(t, c, &log, 130)
	if want := "perdure: stopped by signal: interrupt; 16.0 MiB of 20.0 MiB are kept in the store; run the same command to resume\n"; withoutProgress(log.String()) != want {
		t.Errorf("it says\n%swant\n%s", &log, want)
	}
	p.store.SetScript(nil)
	cleaned(t, p.environ, "1h")
	if p.remembered() != 2 || len(p.store.Uploads()) != 1 {
		t.Errorf("uploads %v, %d files of state after a clean of older ones, want one and two", p.store.Uploads(), p.remembered())
	}
	cleaned(t, p.environ, "0")
	if p.remembered() > 0 || len(p.store.Uploads()) > 0 {
		t.Errorf("uploads %v and %d files of state are left", p.store.Uploads(), p.remembered())
	}
}

// What is known of an upload goes when the object turns out to be there, as where the process was killed in between, and so
// do its parts.
func TestUploadThatIsThereAlready(t *testing.T) {
	p := newPairing(t, mib20())
	up := filepath.Join(filepath.Dir(p.from), "up")
	if err := os.Mkdir(up, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(up, "large.bin"), mib20())
	p.store.SetScript(func(r s3test.Request) s3test.Fault {
		if r.Operation == "CompleteMultipartUpload" { // all parts are there
			return s3test.SlowDown()
		}
		return s3test.Fault{}
	})
	p.run(t, 69, "copy", "-r", up, "s3://bikes/", "--failure-threshold", "100")
	p.store.SetScript(nil)
	if p.remembered() == 0 || len(p.store.Uploads()) == 0 {
		t.Fatal("nothing is left to be cleared")
	}
	if err := p.store.Store("bikes", "large.bin", mib20()); err != nil {
		t.Fatal(err)
	}
	if log := p.run(t, 0, "copy", "-r", up, "s3://bikes/"); !strings.Contains(log, "1 skipped") {
		t.Errorf("it says\n%s", log)
	}
	p.settled(t, mib20())
}
