//go:build integration && unix

package sqlretry_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/servertest"
)

// A server is a PostgreSQL or MariaDB in a directory of its own, which listens on a Unix socket.
type server struct {
	dir, socket string
	program     string
	args        []string
	owner       *syscall.SysProcAttr
	killedBy    syscall.Signal
	restarting  sync.Mutex // the goroutines that restart it end without having sent a byte
	process     *exec.Cmd
	log         bytes.Buffer
}

func (s *server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...) //nolint:noctx // the test stops it
	c.Dir, c.SysProcAttr = s.dir, s.owner
	c.Env = append(os.Environ(), "LC_ALL=C", "HOME="+s.dir, "TZ=UTC")
	return c
}

func (s *server) start(tb testing.TB) {
	tb.Helper()
	s.process = s.command(s.program, s.args...)
	s.process.Stdout, s.process.Stderr = &s.log, &s.log
	if err := s.process.Start(); err != nil {
		tb.Fatal(err)
	}
}

// kill ends the server without a shutdown.
func (s *server) kill() {
	_ = s.process.Process.Signal(s.killedBy)
	_ = s.process.Wait()
}

func (s *server) restart(tb testing.TB) {
	tb.Helper()
	s.restarting.Lock()
	defer s.restarting.Unlock()
	s.kill()
	s.start(tb)
}

// run starts the server, and stops it with the test.
func (s *server) run(tb testing.TB, ready func(context.Context) error) {
	tb.Helper()
	s.start(tb)
	tb.Cleanup(s.kill)
	servertest.Until(tb, "the server is ready", func() bool { return ready(tb.Context()) == nil })
}

func newServer(tb testing.TB) *server {
	tb.Helper()
	dir, err := os.MkdirTemp("/tmp", "sql") //nolint:usetesting // another user must reach it, and a socket's path is short
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &server{dir: dir}
	if os.Geteuid() != 0 {
		return s
	}
	u, err := user.Lookup(unprivilegedUser)
	if err != nil {
		tb.Skipf("SKIPPED: root can't run the servers, and the user %s does not exist: %v", unprivilegedUser, err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2, os.Chown(dir, uid, gid)); err != nil {
		tb.Fatal(err)
	}
	s.owner = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return s
}

// startPostgres returns a server whose socket is named as the drivers look for it.
func startPostgres(tb testing.TB) *server {
	tb.Helper()
	programs := os.Getenv("PERDURE_TEST_POSTGRES")
	if programs == "" {
		tb.Skip("PERDURE_TEST_POSTGRES does not name the directory of PostgreSQL's programs (`make integration` installs them)")
	}
	s := newServer(tb)
	data := filepath.Join(s.dir, "data")
	if out, err := s.command(filepath.Join(programs, "initdb"), "-D", data, "-U", "test", "-A", "trust", "--no-sync").CombinedOutput(); err != nil {
		tb.Fatalf("initdb: %v: %s", err, out)
	}
	s.socket, s.killedBy = filepath.Join(s.dir, ".s.PGSQL.5432"), syscall.SIGQUIT // an immediate shutdown, then recovery
	s.program = filepath.Join(programs, "postgres")
	s.args = []string{"-D", data, "-k", s.dir, "-c", "listen_addresses=", "-c", "fsync=off"}
	db := open(tb, "pgx", "host="+s.dir+" user=test dbname=postgres")
	s.run(tb, db.PingContext)
	return s
}

func startMariaDB(tb testing.TB) *server {
	tb.Helper()
	program := os.Getenv("PERDURE_TEST_MARIADB")
	if program == "" {
		tb.Skip("PERDURE_TEST_MARIADB does not name mariadbd (`make integration` installs it)")
	}
	s := newServer(tb)
	data := filepath.Join(s.dir, "data")
	if out, err := s.command("mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal",
		"--skip-test-db", "--datadir="+data).CombinedOutput(); err != nil {
		tb.Fatalf("mariadb-install-db: %v: %s", err, out)
	}
	s.socket, s.killedBy = filepath.Join(s.dir, "sock"), syscall.SIGKILL
	s.program = program
	s.args = []string{
		"--no-defaults", "--datadir=" + data, "--socket=" + s.socket, "--skip-networking",
		"--pid-file=" + filepath.Join(s.dir, "pid"), "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=16M",
	}
	db := open(tb, "mysql", "root@unix("+s.socket+")/")
	s.run(tb, db.PingContext)
	if _, err := db.ExecContext(tb.Context(), "CREATE DATABASE test"); err != nil {
		tb.Fatal(err)
	}
	return s
}

func open(tb testing.TB, driver, dsn string) *sql.DB {
	tb.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		tb.Fatal(err)
	}
	db.SetMaxOpenConns(24)
	db.SetMaxIdleConns(24)
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

// A proxy passes bytes between clients and a server, until a client sends COMMIT and the proxy is armed.
type proxy struct {
	net.Listener
	target string
	armed  atomic.Pointer[cut]
}

// A cut ends a client's connection at its COMMIT.
type cut struct {
	forward bool   // the server receives COMMIT, and responds
	before  func() // called before the client's connection ends
}

func startProxy(tb testing.TB, target string) *proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{Listener: l, target: target}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(client) })
		}
	})
	tb.Cleanup(func() { _ = l.Close(); all.Wait() })
	return p
}

func (p *proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("unix", p.target) //nolint:noctx // on this host
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var mute atomic.Bool
	var responses sync.WaitGroup
	replied := make(chan struct{})
	responses.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if mute.Load() {
				close(replied) // with the reply, or the end of the connection
				return
			}
			if err != nil {
				_ = client.Close()
				return
			}
			_, _ = client.Write(buf[:n])
		}
	})
	defer func() { _ = server.Close(); responses.Wait() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		var c *cut
		if bytes.Contains(bytes.ToLower(buf[:n]), []byte("commit")) {
			c = p.armed.Swap(nil)
		}
		if c != nil && c.forward {
			mute.Store(true)
			_, _ = server.Write(buf[:n])
			<-replied
		}
		if c != nil {
			c.before()
			return
		}
		if _, err := server.Write(buf[:n]); errors.Is(err, io.ErrClosedPipe) {
			return
		}
	}
}

// unprivilegedUser runs the servers, which refuse to run as root.
const unprivilegedUser = "nobody"
