//go:build unix

// Package pgtest starts PostgreSQL servers for the tests of the examples.
package pgtest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq" // a driver

	"github.com/seed-0f2c7998/perdure/retry"
)

// Start starts a PostgreSQL server with its data and socket in a directory of the test, stops it with the test, and returns
// its DSN. It skips the test if PERDURE_TEST_POSTGRES does not name the directory of PostgreSQL's programs.
func Start(t *testing.T) (dsn string) {
	t.Helper()
	programs := os.Getenv("PERDURE_TEST_POSTGRES")
	if programs == "" {
		t.Skip("PERDURE_TEST_POSTGRES does not name the directory of PostgreSQL's programs (`make integration` installs them)")
	}
	dir, err := os.MkdirTemp("/tmp", "pg") //nolint:usetesting // another user must reach it, and a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	owner := unprivileged(t, dir)
	command := func(name string, args ...string) *exec.Cmd {
		c := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(programs, name), args...)
		c.Dir, c.SysProcAttr = dir, owner
		c.Env = append(os.Environ(), "LC_ALL=C", "HOME="+dir)
		return c
	}
	data := filepath.Join(dir, "data")
	if out, err := command("initdb", "-D", data, "-U", "test", "-A", "trust", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	var log bytes.Buffer
	server := command("postgres", "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off")
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT)
		_ = server.Wait()
	})
	ready, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	poll := &retry.Policy{
		MaxAttempts: retry.Unlimited, BaseDelay: 20 * time.Millisecond, MaxDelay: 20 * time.Millisecond,
		Jitter: retry.NoJitter, Classify: retry.Always, Observe: func(context.Context, retry.Event) {},
	}
	dsn = "host=" + dir + " user=test dbname=postgres sslmode=disable"
	if err := retry.Do(ready, poll, func(ctx context.Context) error { return ping(ctx, dsn) }); err != nil {
		t.Fatalf("the server is not ready: %v: %s", err, log.String())
	}
	return dsn
}

func ping(ctx context.Context, dsn string) error {
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return db.PingContext(ctx)
}

// unprivilegedUser runs PostgreSQL, which refuses to run as root.
const unprivilegedUser = "nobody"

// unprivileged returns the attributes of a process of unprivilegedUser, which becomes the owner of dir; nil if this
// process is not root's.
func unprivileged(t *testing.T, dir string) *syscall.SysProcAttr {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup(unprivilegedUser)
	if err != nil {
		t.Skipf("SKIPPED: root can't run PostgreSQL, and the user %s does not exist: %v", unprivilegedUser, err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2, os.Chown(dir, uid, gid)); err != nil {
		t.Fatal(err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}
