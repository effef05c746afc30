//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"
)

// A path that leads to a descriptor is the descriptor: what others write there before and after stays. It used to be taken
// for the path of the file, which was replaced: what the program that had opened it wrote was lost.
func TestDescriptorsAreWrittenTo(t *testing.T) {
	s := startTestServers(t)
	mustPut(t, s, "raw/x", "middle\n")
	for _, args := range [][]string{
		{"s3://bikes/raw/x", "/dev/stdout"},
		{"s3://bikes/raw/x", "/dev/fd/1"},
		{"x", "link"},
		{"-r", "s3://bikes/raw", "down", "--manifest", "/dev/stdout"},
	} {
		dir := t.TempDir()
		if err := os.Symlink("/dev/stdout", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "x"), []byte("middle\n"))
		out, err := os.OpenFile(filepath.Join(dir, "out"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		c := command(t, s.environ(dir), append([]string{"copy"}, args...)...)
		var stderr bytes.Buffer
		c.Dir, c.Stdout, c.Stderr = dir, out, &stderr
		_, first := io.WriteString(out, "first\n")
		failed := c.Run()
		_, last := io.WriteString(out, "last\n")
		_ = out.Close()
		got, err := os.ReadFile(out.Name())
		if err != nil || first != nil || last != nil || failed != nil {
			t.Fatal(err, first, last, failed, stderr.String())
		}
		if text := string(got); !strings.HasPrefix(text, "first\n") || !strings.HasSuffix(text, "\nlast\n") || strings.Count(text, "\n") != 3 {
			t.Errorf("%q: the file holds %q", args, text)
		}
	}
	for fd := 3; fd < 10; fd++ { // the Go runtime has opened some of them
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			continue // the user who runs the tests has
		}
		path := fmt.Sprintf("/dev/fd/%d", fd)
		for want, args := range map[string][]string{"write " + path: {"s3://bikes/raw/x", path}, "read " + path: {path, "s3://bikes/raw/y"}} {
			var stderr bytes.Buffer
			c := command(t, s.environ(t.TempDir()), append([]string{"copy"}, args...)...)
			c.Stderr = &stderr
			if c.Run() == nil || !strings.Contains(stderr.String(), want+": bad file descriptor") {
				t.Errorf("copy %v: a descriptor that is not open: %s", args, stderr.String())
			}
		}
	}
}

// A file keeps its owner and its group when another takes its place. It used to become the copier's: a file of mode 0640 of
// another user's could not be read by him any more, after root had copied to it.
func TestOwnerStays(t *testing.T) {
	owner, group := os.Geteuid(), -1
	if owner == 0 {
		owner, group = 4711, 4712
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if group < 0 && g != os.Getegid() {
			group = g
		}
	}
	if group < 0 {
		t.Skip("this user has one group")
	}
	s := startTestServers(t)
	dir := t.TempDir()
	for _, name := range []string{"src", "dst"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "src", "x"), []byte("new"))
	write(t, filepath.Join(dir, "dst", "x"), []byte("old"))
	old := filepath.Join(dir, "dst", "x")
	for _, args := range [][]string{
		{"src/x", "s3://bikes/raw/x"}, {"src/x", "dst/x"}, {"s3://bikes/raw/x", "dst/x"}, {"-r", "s3://bikes/raw", "dst"},
	} {
		write(t, old, []byte("older"))
		if err := os.Chown(old, owner, group); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(old, 0o640); err != nil {
			t.Fatal(err)
		}
		c := command(t, s.environ(dir), append([]string{"copy"}, args...)...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
		info, err := os.Stat(old)
		if err != nil {
			t.Fatal(err)
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || int(stat.Uid) != owner || int(stat.Gid) != group || info.Mode().Perm() != 0o640 {
			t.Errorf("%q: the file is now of %d:%d, %v; want %d:%d", args, stat.Uid, stat.Gid, info.Mode(), owner, group)
		}
	}
}

// A server that sends more than it has announced writes nothing to the messages: net/http used to quote it there, as no
// other message is written.
func TestServersWriteNoMessages(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	surplus := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
		_, _ = io.WriteString(c, "abc"+strings.Repeat("secret", 10_000))
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	})} //nolint:gosec // of a test
	go func() { _ = surplus.Serve(l) }()
	t.Cleanup(func() { _ = surplus.Shutdown(context.WithoutCancel(t.Context())) })
	for range 20 { // it is a matter of luck whether the client notices
		var stderr bytes.Buffer
		c := command(t, []string{"PATH=" + os.Getenv("PATH"), "PERDURE_STATE=" + t.TempDir()}, "--json", "copy", "http://"+l.Addr().String()+"/x", "-")
		c.Stderr = &stderr
		if err := c.Run(); err != nil {
			t.Fatal(err, stderr.String())
		}
		if wrong := shown(stderr.String(), true); wrong != nil || strings.Contains(stderr.String(), "secretsecret") {
			t.Fatalf("%q: %v", stderr.String(), wrong)
		}
	}
}

// A directory that does not let this user take the place of a file: the message says what is the matter, and the way out.
// In a sticky directory it used to be the name of a file of ours that could not be renamed.
func TestWhatCannotBeReplaced(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	s := startTestServers(t)
	dir := t.TempDir()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	perdure := filepath.Join(dir, "perdure")
	write(t, perdure, self)
	for name, mode := range map[string]os.FileMode{"sticky": 0o777 | os.ModeSticky, "closed": 0o755} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "x"), []byte("old"))
		for path, mode := range map[string]os.FileMode{filepath.Dir(dir): 0o755, dir: 0o755, perdure: 0o755, filepath.Join(dir, name): mode, filepath.Join(dir, name, "x"): 0o666} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(t, filepath.Join(dir, "x"), []byte("new"))
	for _, err := range []error{os.Chmod(filepath.Join(dir, "x"), 0o644), os.MkdirAll(filepath.Join(dir, "above", "sub"), 0o755), os.Chmod(filepath.Join(dir, "above", "sub"), 0o777)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, s, "deep/sub/x", "new")
	mustPut(t, s, "deep/y", "new")
	mustPut(t, s, "raw/x", "new")
	for _, c := range []struct{ from, to, want string }{
		{"x", "sticky/x", "write sticky/x: the file can't be replaced, only overwritten in place: to do that, run: perdure copy x - > sticky/x\n"},
		{"s3://bikes/raw/x", "closed/x", "write closed/x: the file can't be replaced, only overwritten in place: to do that, run: perdure copy s3://bikes/raw/x - > closed/x\n"},
		{"x", "closed/y", "write closed/y: permission denied\n"},
		{"-r s3://bikes/raw", "closed", "write closed: permission denied\n"},
		{"-r s3://bikes/deep", "above", "1 of 2 files were not copied: above/y\n"}, // what is below may be written
		{"-r s3://bikes/raw", "sticky", "write sticky/x: the file can't be replaced, only overwritten in place: to do that, run: perdure copy s3://bikes/raw/x - > sticky/x\n"},
	} {
		var stderr bytes.Buffer
		run := exec.CommandContext(t.Context(), perdure, append(append([]string{"copy"}, strings.Fields(c.from)...), c.to)...)
		run.Dir, run.Stderr, run.Env = dir, &stderr, append(os.Environ(), s.environ("/nowhere")...)
		run.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if run.Run() == nil || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%s to %s: %s\nwant %s", c.from, c.to, stderr.String(), c.want)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*", ".perdure-*")); left != nil {
			t.Errorf("%s to %s leaves %v", c.from, c.to, left)
		}
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "above", "sub", "x")); string(text) != "new" {
		t.Errorf("above/sub/x is %q", text)
	}
}

func mustPut(t *testing.T, s *testServers, key, text string) {
	t.Helper()
	if _, err := s.client().PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("bikes"), Key: &key, Body: strings.NewReader(text)}); err != nil {
		t.Fatal(err)
	}
}

// A file that changes while it is read is told of, whatever it becomes. It used to be for objects alone.
func TestMovingSourceIsReported(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	write(t, src, bytes.Repeat([]byte("x"), 4<<20))
	var stderr bytes.Buffer
	c := command(t, nil, "copy", src, "-")
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	_, first := io.CopyN(io.Discard, out, 1) // more than a pipe holds is still to be read
	changed := os.Truncate(src, 5<<20)
	n, rest := io.Copy(io.Discard, out)
	if err := errors.Join(first, changed, rest, c.Wait()); err != nil || n != 4<<20-1 {
		t.Fatal(n, err, stderr.String())
	}
	if want := "WARN: " + src + " changed while it was read: the copy may mix old and new content\n"; !strings.Contains(stderr.String(), want) {
		t.Errorf("%s\nwant %s", stderr.String(), want)
	}
}
