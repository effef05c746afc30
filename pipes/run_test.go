package pipes

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/retry"

	"github.com/seed-0f2c7998/perdure/internal/pipestest"
)

// role is the variable that makes this test binary a program, which calls play.
const role = "PERDURE_PIPES_TEST"

func TestMain(m *testing.M) {
	if name := os.Getenv(role); name != "" {
		grace := time.Hour
		if name == "stubborn" {
			grace = 10 * time.Millisecond
		}
		code := Config{Grace: grace}.Run(func(ctx context.Context, s *Session) error { return play(ctx, s, name) })
		if self, err := os.FindProcess(os.Getpid()); err == nil && name == "signalled again" {
			for range 100 { // the first one used to end the process before it exited with its code
				_ = self.Signal(os.Interrupt)
			}
		}
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// play is the work of a program.
func play(ctx context.Context, s *Session, name string) error {
	switch name {
	case "success":
		fmt.Fprintln(os.Stdout, "the asset is", s.Context.AssetKeys)
		return s.Log(slog.LevelInfo, "é")
	case "failure":
		return fmt.Errorf("GET https://me:hunter2@host/: %w", coded{75})
	case "panic":
		return fmt.Errorf("item %d", []int{}[len(name)])
	case "panic with an error":
		panic(fmt.Errorf("outer: %w", os.ErrNotExist))
	case "goexit":
		runtime.Goexit()
		return nil
	case "backoff":
		p := retry.Policy{Name: "op", BaseDelay: 24 * time.Hour, MaxDelay: 48 * time.Hour, Classify: retry.Always}
		observe := s.Observe(nil)
		p.Observe = func(ctx context.Context, e retry.Event) { observe(ctx, e); fmt.Fprintln(os.Stdout, "ready") }
		return retry.Do(ctx, &p, func(context.Context) error { return errors.New("down") })
	case "own error", "signalled again":
		fmt.Fprintln(os.Stdout, "ready")
		<-ctx.Done()
		return errors.New("gave up")
	case "finishes":
		fmt.Fprintln(os.Stdout, "ready")
		<-ctx.Done()
		return nil
	case "stubborn":
		fmt.Fprintln(os.Stdout, "ready")
		select {}
	case "fills":
		signal.Ignore(syscall.Signal(25)) // SIGXFSZ, of a file that must not grow
		for range 4 {
			if err := s.Log(slog.LevelInfo, "of a page"); err != nil {
				return err
			}
		}
		return nil
	case "floods":
		for i := range 1000 {
			if err := s.Log(slog.LevelInfo, strings.Repeat("x", i)); err != nil {
				return err
			}
		}
		return nil
	default:
		return fmt.Errorf("no role %q", name)
	}
}

// A program runs with the variables of Dagster; the test reads its messages.
type program struct {
	*exec.Cmd
	file   string
	out    io.ReadCloser
	stderr bytes.Buffer
}

func start(t *testing.T, name string) *program {
	t.Helper()
	p := &program{file: filepath.Join(t.TempDir(), "messages")}
	p.Cmd = exec.CommandContext(t.Context(), os.Args[0])
	p.Env = append(os.Environ(), role+"="+name,
		contextVariable+"="+pack(t, dict{"data": pipestest.Context("a")}), messagesVariable+"="+pack(t, dict{"path": p.file}))
	p.Stderr = &p.stderr
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.out = out; p.Start() != nil {
		t.Fatal("the test can't start itself")
	}
	return p
}

// end waits for the program, and returns its code and last message.
func (p *program) end(t *testing.T) (code int, last pipestest.Message) {
	t.Helper()
	_, _ = io.Copy(io.Discard, p.out)
	_ = p.Wait()
	received := messagesIn(t, p.file)
	return p.ProcessState.ExitCode(), received[len(received)-1]
}

// The exit code and the last message report how the work ended.
func TestRun(t *testing.T) {
	for _, c := range []struct {
		role   string
		code   int
		name   string // of the exception
		text   string // in its message; "" is none
		stderr string
	}{
		{"success", 0, "", "", ""},
		{"failure", 75, "fmt.wrapError", "GET https://REDACTED@host/: code 75", "error: GET https://REDACTED@host/: code 75\n"},
		{"panic", 2, "panic", "index out of range", "pipes.play("},
		{"panic with an error", 2, "panic", "outer: file does not exist", "file does not exist"},
		{"goexit", 1, "errors.errorString", "called runtime.Goexit", ""},
	} {
		p := start(t, c.role)
		code, last := p.end(t)
		exception := last.Params["exception"]
		text, _ := pipestest.Member(exception, "message").(string)
		name, _ := pipestest.Member(exception, "name").(string)
		if code != c.code || last.Method != "closed" || (exception != nil) != (c.text != "") || !strings.Contains(text, c.text) || name != c.name {
			t.Errorf("%s: code %d, last message %v, want code %d and %s %q", c.role, code, last, c.code, c.name, c.text)
		}
		if !strings.Contains(p.stderr.String(), c.stderr) || strings.Contains(p.stderr.String(), "hunter2") {
			t.Errorf("%s: stderr %q, want %q", c.role, p.stderr.String(), c.stderr)
		}
		if stack, _ := pipestest.Member(exception, "stack").([]any); (c.name == "panic") != (len(stack) > 4) {
			t.Errorf("%s: a stack of %d lines", c.role, len(stack))
		}
	}
}

// A signal ends a wait at once, and is the cause. Further signals have no effect.
func TestRunEndsAtASignal(t *testing.T) {
	for _, c := range []struct {
		role   string
		signal syscall.Signal
		code   int
		text   string
	}{
		{"backoff", syscall.SIGINT, 130, "op: stopped by signal: interrupt after 1 attempt: down"},
		{"backoff", syscall.SIGTERM, 143, "op: stopped by signal: terminated after 1 attempt: down"},
		{"own error", syscall.SIGINT, 130, "stopped by signal: interrupt: gave up"},
		{"signalled again", syscall.SIGINT, 130, "stopped by signal: interrupt: gave up"},
		{"stubborn", syscall.SIGINT, 130, "stopped by signal: interrupt"},
		{"finishes", syscall.SIGINT, 0, ""},
	} {
		p := start(t, c.role)
		if line, err := bufio.NewReader(p.out).ReadString('\n'); line != "ready\n" {
			t.Fatalf("%s: %q, %v, stderr %s", c.role, line, err, p.stderr.String())
		}
		for range 3 {
			if err := p.Process.Signal(c.signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
		}
		code, last := p.end(t)
		text, _ := pipestest.Member(last.Params["exception"], "message").(string)
		if code != c.code || last.Method != "closed" || text != c.text {
			t.Errorf("%s at %v: code %d, last message %v; want %d, %q", c.role, c.signal, code, last, c.code, c.text)
		}
	}
}

// The outcome of work that a signal ended in a wait.
func TestRunReportsTheOutcome(t *testing.T) {
	p := start(t, "backoff")
	if _, err := bufio.NewReader(p.out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.end(t)
	received := messagesIn(t, p.file)
	payload := received[len(received)-2].Params["payload"]
	waited := fmt.Sprint(pipestest.Member(payload, "waited_s"))
	if got := fmt.Sprintln(pipestest.Member(payload, "outcome"), pipestest.Member(payload, "retryable"), pipestest.Member(payload, "exit_code"), pipestest.Member(payload, "last_error")); got != "interrupted false 130 down\n" || len(waited) > 6 {
		t.Errorf("outcome %s of %v", got, payload)
	}
}

// Parameters that can't be read end the program before its work.
func TestRunWithoutParameters(t *testing.T) {
	p := exec.CommandContext(t.Context(), os.Args[0])
	p.Env = append(os.Environ(), role+"=success", contextVariable+"=%%%")
	out, err := p.CombinedOutput()
	if p.ProcessState.ExitCode() != 1 || strings.TrimSpace(string(out)) == "" || !strings.HasPrefix(string(out), "error: pipes: DAGSTER_PIPES_CONTEXT is not base64") {
		t.Errorf("code %d, %v, output %q", p.ProcessState.ExitCode(), err, out)
	}
}

// A message that does not fit the disk leaves no part of itself, which would end
// Dagster's reader. The work continues.
func TestRunOnAFullDisk(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no limit for the size of a file")
	}
	file := filepath.Join(t.TempDir(), "messages")
	p := exec.CommandContext(t.Context(), "sh", "-c", `ulimit -f 12 && exec "$0"`, os.Args[0]) //nolint:gosec // 6 KiB, or 12 in another shell
	var stderr bytes.Buffer
	p.Stderr = &stderr
	p.Env = append(os.Environ(), role+"=fills",
		contextVariable+"="+pack(t, dict{"data": pipestest.Context("a")}), messagesVariable+"="+pack(t, dict{"path": file}))
	if err := p.Run(); err != nil || strings.Count(stderr.String(), "messages to Dagster are lost") != 1 {
		t.Errorf("%v, stderr %q", err, stderr.String())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := pipestest.Read(text); err != nil || r.Opened != 1 || r.Closed != 0 {
		t.Errorf("%v: opened %d times, closed %d times, want 1 and 0", err, r.Opened, r.Closed)
	}
}

// A closed reader of standard output does not end the program.
func TestRunOutlivesItsReader(t *testing.T) {
	for _, kind := range []string{"stdio", "buffered_stdio"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		p := exec.CommandContext(t.Context(), os.Args[0])
		var stderr bytes.Buffer
		p.Stdout, p.Stderr = w, &stderr
		p.Env = append(os.Environ(), role+"=floods",
			contextVariable+"="+pack(t, dict{"data": pipestest.Context("a")}), messagesVariable+"="+pack(t, dict{kind: "stdout"}))
		if err := errors.Join(r.Close(), p.Start(), w.Close()); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err != nil || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: %v, stderr %q", kind, err, stderr.String())
		}
	}
}
