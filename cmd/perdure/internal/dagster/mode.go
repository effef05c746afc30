package dagster

import (
	"cmp"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/run"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/pipes"
)

// A Mode says how a child of `perdure run` reports to Dagster. Mode is the value of a
// flag; the zero Mode means that of the environment, or [Strip].
type Mode string

// The modes.
const (
	Strip       Mode = "strip"       // the child does not see Dagster
	Relay       Mode = "relay"       // the command relays the reports of the attempt that succeeds
	Passthrough Mode = "passthrough" // the child reports to Dagster, the command does not
)

// ModeVariable is the environment variable that sets the mode if the flag is absent.
const ModeVariable = "PERDURE_DAGSTER"

// Modes returns the names of the modes.
func Modes() []string { return []string{string(Strip), string(Relay), string(Passthrough)} }

// String returns the name of the mode.
func (m *Mode) String() string { return string(*m) }

// Type returns the name of the value in help texts.
func (m *Mode) Type() string { return "mode" }

// Set sets the mode by name.
func (m *Mode) Set(text string) error {
	if !slices.Contains(Modes(), text) {
		return setting.Unknown("mode", text, Modes())
	}
	*m = Mode(text)
	return nil
}

// Or returns m, or the mode of the environment if m is the zero Mode.
func (m Mode) Or(environ []string) (Mode, error) {
	text, _ := lookup(environ)(ModeVariable)
	switch {
	case m != "":
		return m, nil
	case text == "":
		return Strip, nil
	case !slices.Contains(Modes(), text):
		return "", setting.Unknown(ModeVariable, text, Modes())
	}
	return Mode(text), nil
}

// grace is the longest time that an attempt may run after a signal.
const grace = 10 * time.Second

// ConfigureCommand adapts the environment and the streams of c to the mode, and
// limits how long c runs after a signal: to killAfter, or less; 0 means 10s. The
// caller must call ended when c has ended.
func (s *Session) ConfigureCommand(c *run.Command, m Mode, killAfter time.Duration) (ended func()) {
	environ := c.Environ
	if m != Passthrough {
		c.Environ = pipes.StripEnv(environ)
	}
	if m == Relay && s != nil {
		c.BeforeAttempt = func() ([]string, func(bool) error) { return s.relay(environ) }
	}
	if Launched(environ) {
		c.KillAfter = min(cmp.Or(killAfter, grace), grace)
	}
	c.Stdout, c.Stderr, ended = s.streams(c.Stdout, c.Stderr)
	return ended
}

// streams returns the standard streams for a child: those of the process, or pipes to
// them if Dagster asked for their text as messages. The caller must call ended when
// the child has ended.
func (s *Session) streams(stdout, stderr *os.File) (out, errs *os.File, ended func()) {
	if s == nil || !s.pipes.ForwardsStdio() {
		return stdout, stderr, func() {}
	}
	out, endOut := s.tee(pipes.Stdout, stdout)
	errs, endErrs := s.tee(pipes.Stderr, stderr)
	return out, errs, func() { endOut(); endErrs() }
}

// late is how long an orphan of the child may hold a stream open.
const late = time.Second

// tee returns a pipe whose text goes to direct and to Dagster.
func (s *Session) tee(name string, direct *os.File) (*os.File, func()) {
	to, err := s.pipes.Stream(name)
	if err != nil {
		return direct, func() {}
	}
	r, w, err := os.Pipe()
	if err != nil {
		s.warn(name + " is not sent to Dagster: " + err.Error())
		return direct, func() {}
	}
	gone := make(chan os.Signal, 1)
	signal.Notify(gone, syscall.SIGPIPE) // a stream without a reader must end the child, not this process
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(struct{ io.Writer }{to}, r) // a failed write closes the pipe, which ends the child
		_ = r.Close()
		close(done)
	}()
	return w, func() {
		_ = w.Close()
		select {
		case <-done:
		case <-time.After(late):
		}
		signal.Stop(gone)
	}
}
