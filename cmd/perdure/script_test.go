package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/seed-0f2c7998/perdure/internal/servertest"
)

// Under the race detector every process would wait for a second at its end.
const noRaceDelay = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	testscript.Main(interruptible{m}, map[string]func(){"perdure": main, "fetch": fetch, "speak": speak, "bareproxy": bareProxy})
}

// interruptible runs the tests with signals that commands hear. A shell starts what is in its background with SIGINT ignored, as
// nohup does with SIGHUP; the commands would inherit it, and rightly ignore it as well.
type interruptible struct{ *testing.M }

func (h interruptible) Run() int {
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGHUP} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	return h.M.Run()
}

// fetch is a command that asks the URL of its first argument, and fails if that
// fails: what a step of a pipeline is to these tests. It tells the server whose
// child it is.
func fetch() {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, os.Args[1], http.NoBody)
	if err != nil {
		os.Exit(2)
	}
	req.Header.Set("Parent", strconv.Itoa(os.Getppid()))
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusOK {
		os.Exit(1)
	}
}

// TestScript runs the command as its users do. Each script says what it is about.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, noRaceDelay, "PERDURE_STATE="+filepath.Join(e.WorkDir, "state"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"signalled": signalled},
	})
}

// signalled is a command of scripts: signalled SIGNAL CODE COMMAND [ARG...] runs the command, sends it the signal once
// there is the file "pid" or it says that it waits, and wants it to end with the code, long before what it waits for. What it writes
// is in the files "out" and "err".
func signalled(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: signalled SIGNAL CODE COMMAND [ARG...]")
	}
	_ = os.Remove(ts.MkAbs("pid"))
	cmd := exec.Command(args[2], args[3:]...) //nolint:noctx // the loop below ends
	cmd.Dir, cmd.Env = ts.MkAbs("."), []string{noRaceDelay}
	for _, name := range []string{"PATH", "PERDURE_JITTER", "PERDURE_STATE"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	var err error
	cmd.Stdout, err = os.Create(ts.MkAbs("out"))
	ts.Check(err)
	cmd.Stderr, err = os.Create(ts.MkAbs("err"))
	ts.Check(err)
	ts.Check(cmd.Start())
	ctx, ready := context.WithTimeout(context.Background(), time.Minute)
	servertest.Repeat(ctx, func() {
		info, err := os.Stat(ts.MkAbs("pid"))
		if err == nil && info.Size() > 0 || strings.Contains(ts.ReadFile("err"), "Retrying") {
			ready()
		}
	})
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		ts.Fatalf("neither in an attempt nor between two")
	}
	ts.Check(ts.Exec("kill", "-"+args[0], strconv.Itoa(cmd.Process.Pid)))
	_ = cmd.Wait() // the code tells
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("exit code %s, want %s\n%s", got, args[1], ts.ReadFile("err"))
	}
}
