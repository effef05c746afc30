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

// A Mode says how a command that is run and Dagster have to do with one another.
// It is a flag's value; the zero Mode is that of the environment, or Strip.
type Mode string

// The modes.
const (
	Strip       Mode = "strip"       // the child knows nothing of Dagster
	Relay       Mode = "relay"       // the child reports, and what holds is passed on
	Passthrough Mode = "passthrough" // the child reports by itself, and we do not
)

// ModeVariable is the environment variable that sets the mode where the flag
// does not.
const ModeVariable = "PERDURE_DAGSTER"

// Modes are the words for the modes.
func Modes() []string { return []string{string(Strip), string(Relay), string(Passthrough)} }

// String returns the word.
func (m *Mode) String() string { return string(*m) }

// Type is what a help text calls the value.
func (m *Mode) Type() string { return "mode" }

// Set sets the mode to the one of that word.
func (m *Mode) Set(text string) error {
	if !slices.Contains(Modes(), text) {
		return setting.Unknown("mode", text, Modes())
	}
	*m = Mode(text)
	return nil
}

// Or returns m, or the mode of the environment if m is zero.
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

// grace is how long an attempt may go on after a signal, at most.
const grace = 10 * time.Second

// ConfigureCommand makes c, whose environment and streams are ours, ready to be run in
// that mode. After a signal it gets killAfter to end, if that is not 0. The
// function must be called when it has run.
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

// streams returns the standard streams for a child: ours, or pipes to them if
// Dagster wants what goes there as messages, too. The function must be called
// when the child has ended.
func (s *Session) streams(stdout, stderr *os.File) (out, errs *os.File, ended func()) {
	if s == nil || !s.pipes.ForwardsStdio() {
		return stdout, stderr, func() {}
	}
	out, endOut := s.tee(pipes.Stdout, stdout)
	errs, endErrs := s.tee(pipes.Stderr, stderr)
	return out, errs, func() { endOut(); endErrs() }
}

// late is how long a process that its parent has left behind may hold a stream
// open.
const late = time.Second

func (s *Session) tee(name string, direct *os.File) (*os.File, func()) {
	to, err := s.pipes.Stream(name)
	if err != nil {
		return direct, func() {}
	}
	r, w, err := os.Pipe()
	if err != nil {
		s.warn("" + name + " is not sent to Dagster: " + err.Error())
		return direct, func() {}
	}
	gone := make(chan os.Signal, 1)
	signal.Notify(gone, syscall.SIGPIPE) // the child shall learn that nobody reads, and not end us
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(struct{ io.Writer }{to}, r) // the child sees it
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
