//go:build unix

package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

// A running command is one in a step that may be cancelled.
type running struct {
	*dagsterStep

	cmd *exec.Cmd
	log bytes.Buffer
}

// begin starts the command.
func (s *dagsterStep) begin(args ...string) *running {
	s.t.Helper()
	r := &running{dagsterStep: s, cmd: command(s.t, s.environ, args...)}
	r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = s.dir, io.Discard, &r.log
	start(s.t, r.cmd)
	return r
}

// process returns the process ID that a child has written to that file.
func (r *running) process(file string) (pid int) {
	r.t.Helper()
	eventually(r.t, "the child runs", func() bool {
		text, _ := os.ReadFile(filepath.Join(r.dir, file))
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return pid > 0
	})
	return pid
}

func (r *running) signal(s os.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// cancel sends a signal to the command only, as Dagster does, and checks that the
// command ends in time with that code.
func (r *running) cancel(s os.Signal, code int) {
	r.t.Helper()
	r.signal(s)
	begun := time.Now()
	interrupted(r.t, r.cmd, &r.log, code)
	if took := time.Since(begun); took > 30*time.Second {
		r.t.Errorf("took %v", took)
	}
}

// gone checks that a process has ended; it may be a zombie.
func gone(t *testing.T, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d does not outlive the step", pid), func() bool {
		status, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || bytes.Contains(status, []byte("State:\tZ"))
	})
}

// A cancelled step ends in time, also if its processes ignore signals, and reports it.
func TestDagsterCancel(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		signal syscall.Signal
		code   int
		grace  string // 0.3 if empty
	}{
		"the child ends":                     {"echo $$ >child; echo $$ >pid; exec sleep 300", syscall.SIGINT, 130, ""},
		"the child ends, SIGTERM":            {"echo $$ >child; echo $$ >pid; exec sleep 300", syscall.SIGTERM, 143, ""},
		"the child ignores it":               {"trap '' INT; echo $$ >child; echo $$ >pid; exec sleep 300", syscall.SIGINT, 130, ""},
		"the child ignores it, SIGTERM":      {"trap '' TERM; echo $$ >child; echo $$ >pid; exec sleep 300", syscall.SIGTERM, 143, ""},
		"a grandchild ignores it":            {"sleep 300 & echo $! >child; echo $$ >pid; wait", syscall.SIGINT, 130, ""},
		"a grandchild ignores all that asks": {"(trap '' INT TERM; exec sleep 300) & echo $! >child; echo $$ >pid; wait", syscall.SIGINT, 130, ""},
		"the child has a say":                {"trap 'exit 5' INT; echo $$ >child; echo $$ >pid; sleep 300 & wait", syscall.SIGINT, 5, "60"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newStep(t, "my_asset").begin("run", "--kill-after", cmp.Or(test.grace, "0.3"), "--", "sh", "-c", test.script)
			pid, child := r.process("pid"), r.process("child")
			r.cancel(test.signal, test.code)
			gone(t, pid)
			gone(t, child)
			r.wantOutcome(dict{"outcome": "interrupted", "attempts": 1, "exit_code": test.code, "retryable": false})
			if got := r.exceptions(); len(got) == 0 || !strings.Contains(got[0], "stopped by signal") {
				t.Errorf("closed with %q", got)
			}
		})
	}
}

// A signal during a wait ends it at once.
func TestDagsterCancelBetweenAttempts(t *testing.T) {
	r := newStep(t).begin("run", "--base-delay", "90", "--", "sh", "-c", "echo $$ >pid; exit 3")
	eventually(t, "it waits", func() bool {
		text, _ := os.ReadFile(r.messages)
		return bytes.Contains(text, []byte("Retrying sh"))
	})
	r.cancel(os.Interrupt, 130)
	r.wantOutcome(dict{"outcome": "interrupted", "attempts": 1, "last_error": "exit status 3", "exit_code": 130})
}

// A ^C reaches the command twice, from the terminal and from Dagster: the child gets the
// signal once, and may clean up.
func TestDagsterCancelTwice(t *testing.T) {
	r := newStep(t).begin("run", "--", "sh", "-c",
		"trap 'echo got >>signals' INT; trap 'touch go' USR1; echo $$ >pid; while ! test -e go; do sleep 0.01; done; exit 5")
	r.process("pid")
	r.signal(os.Interrupt)
	signals := filepath.Join(r.dir, "signals")
	eventually(t, "the child has it", func() bool { text, _ := os.ReadFile(signals); return len(text) > 0 })
	r.signal(os.Interrupt)
	r.cancel(syscall.SIGUSR1, 5)
	if text, _ := os.ReadFile(signals); string(text) != "got\n" {
		t.Errorf("the child got the signal %d times", strings.Count(string(text), "got"))
	}
	r.wantOutcome(dict{"outcome": "interrupted", "exit_code": 5})
}

// A copy that is cancelled twice reports one end.
func TestDagsterCancelCopy(t *testing.T) {
	body := generated(1 << 20)
	web := httptestfault.New(func(int, *http.Request) httptestfault.Response {
		return httptestfault.Response{Body: body}.With(httptestfault.StallBody(600_000))
	})
	defer web.Close()
	r := newStep(t, "my_asset").begin("copy", web.URL+"/stations.bin", "stations.bin")
	eventually(t, "some of the file is there", func() bool { return unfinished(t, r.dir) > 500_000 })
	r.signal(os.Interrupt)
	r.cancel(os.Interrupt, 130)
	r.wantOutcome(dict{"outcome": "interrupted", "exit_code": 130})
	if n := len(of("report_asset_materialization", r.received())); n > 0 {
		t.Errorf("%d materializations of what is not there", n)
	}
}
