// Package pipes implements the external-process side of Dagster Pipes: a process
// that a Dagster step has started learns what it is to make, and reports what
// it did.
//
//	func main() {
//		os.Exit(pipes.Run(func(ctx context.Context, s *pipes.Session) error {
//			upload := retry.S3Upload()
//			upload.Observe = s.Observe(upload.Breaker) // each retry is a line in Dagster's log
//			if err := retry.Do(ctx, &upload, work); err != nil {
//				return err
//			}
//			return s.Materialize(pipes.Materialization{Metadata: pipes.Metadata{"rows": pipes.Int(17379)}})
//		}))
//	}
//
// A message that Dagster can't read ends its reader without a word, and the
// step succeeds all the same. So nothing here can make one: what is not allowed
// is an error of the call that reports it. A message that can't be written, on
// the other hand, is lost with one warning, and changes nothing else.
//
// Under no Dagster everything works and nothing is reported.
package pipes

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// The streams of [Session.Stream] and of the stdio parameters.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// ErrClosed is what reports after [Session.Close] return.
var ErrClosed = errors.New("pipes: the session is closed")

// A Config says where a session finds its parameters, and how it reads and
// writes blobs. The zero Config is for a process that a Dagster client has
// started on the same machine.
type Config struct {
	// Context reads the context if it is a blob. Nil reads it from the file or
	// from the text that the parameters hold.
	Context BlobReader
	// Messages writes messages as blobs, from a goroutine of the session. Nil
	// writes them to the file or the stream that the parameters name.
	Messages BlobWriter
	// Args may hold the parameters as --dagster-pipes-context and
	// --dagster-pipes-messages, which win over the environment. Nil means none.
	Args []string
	// LookupEnv looks up the environment; nil means os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// Stdout and Stderr are for messages, if Dagster wants them there, and
	// Stderr for warnings. Nil means those of the process.
	Stdout, Stderr io.Writer
	// Grace is how long the work of [Run] may go on after a signal; 0 means
	// 12s. Dagster leaves an orphan behind after 20s.
	Grace time.Duration
}

// Launched reports whether Dagster has started the process.
func Launched() bool {
	_, ok := os.LookupEnv(contextVariable)
	return ok
}

// StripEnv returns env, as of [os.Environ], for a child that shall not report
// by itself: what it wrote would come between our messages, and twice if it is
// started twice.
func StripEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		return strings.HasPrefix(v, contextVariable+"=") || strings.HasPrefix(v, messagesVariable+"=")
	})
}

// RelayEnv returns env for a child that does report, but to a file of ours
// instead: it gets the same context, and is to send its messages to path.
func RelayEnv(env []string, path string) []string {
	text, _ := json.Marshal(map[string]string{"path": path}) // a map of strings can be
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, _ = z.Write(text) // to memory
	_ = z.Close()
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, messagesVariable+"=") })
	return append(env, messagesVariable+"="+base64.StdEncoding.EncodeToString(packed.Bytes()))
}

// lookup returns a parameter, from the arguments or the environment.
func (c *Config) lookup(variable string) (string, bool) {
	flag := "--" + strings.ReplaceAll(strings.ToLower(variable), "_", "-")
	for i, arg := range c.Args {
		if arg == flag && i+1 < len(c.Args) {
			return c.Args[i+1], true
		}
		if value, ok := strings.CutPrefix(arg, flag+"="); ok {
			return value, true
		}
	}
	if c.LookupEnv != nil {
		return c.LookupEnv(variable)
	}
	return os.LookupEnv(variable)
}

func (c *Config) stdout() io.Writer {
	if c.Stdout != nil {
		return c.Stdout
	}
	return os.Stdout
}

func (c *Config) stderr() io.Writer {
	if c.Stderr != nil {
		return c.Stderr
	}
	return os.Stderr
}

// open returns the sink that p asks for. A wrong parameter is a fault of who
// set it, which err says; a sink that can't be opened takes no messages.
func (c *Config) open(ctx context.Context, p params) (sink, error) {
	if c.Messages != nil {
		bucket, prefix, err := p.blob(prefixKey)
		if err != nil {
			return nil, err
		}
		return newBlobs(ctx, c.Messages, bucket, prefix), nil
	}
	switch {
	case p.has("path"):
		name, err := p.text("path")
		if err != nil {
			return nil, err
		}
		return &file{name: name}, nil
	case p.has("stdio"):
		w, err := c.stream(p, "stdio")
		if err != nil {
			return nil, err
		}
		return w, nil
	case p.has("buffered_stdio"):
		w, err := c.stream(p, "buffered_stdio")
		if err != nil {
			return nil, err
		}
		return &buffered{to: w}, nil
	default:
		return nil, fmt.Errorf(`%s has neither "path" nor "stdio" nor "buffered_stdio"`, p.name)
	}
}

// stream returns the standard stream that the parameter names.
func (c *Config) stream(p params, key string) (*standard, error) {
	name, err := p.text(key)
	if err != nil {
		return nil, err
	}
	switch name {
	case Stdout:
		return newStandard(Stdout, c.stdout()), nil
	case Stderr:
		return newStandard(Stderr, c.stderr()), nil
	default:
		return nil, fmt.Errorf("%s: invalid value %q for %q: must be stdout or stderr", p.name, name, key)
	}
}

// A Session is one conversation with Dagster; make it with [Open], or let [Run]
// do so. The zero Session reports to nobody: that is what there is when Dagster
// has not started the process. Its methods are safe for concurrent use, and
// each message is written before the method returns, unless Dagster asked for
// messages in blobs or at the end.
type Session struct {
	// Context is the context of the step. It is not changed.
	Context Context

	config  Config
	include bool // what goes to standard streams is to be sent as well

	out     sink      // nil: nobody listens
	shared  *standard // the stream that out writes to; nil: it is no stream
	end     sync.Once
	tally   tally // of retries
	streams [2]stream

	mu     sync.Mutex // of what follows, and of out's methods
	closed bool
	warned bool
	made   map[string]bool // assets that were materialized
}

// Open begins a session: it reads the context and tells Dagster that the
// process is there. Ctx is for the context's blob. When Dagster has not started
// the process that is no error, but a line on c.Stderr.
//
// The Session is never nil: with an error it is one that reports to nobody, for
// a program whose work is worth doing all the same.
func Open(ctx context.Context, c Config) (*Session, error) {
	packed, ok := c.lookup(contextVariable)
	if !ok {
		fmt.Fprintf(c.stderr(), "pipes: not started by Dagster (%s is not set): nothing is reported\n", contextVariable)
		return &Session{config: c}, nil
	}
	s := &Session{config: c, made: map[string]bool{}}
	if err := s.open(ctx, packed); err != nil {
		return &Session{config: c}, err
	}
	return s, nil
}

// open does in order what can fail; only then is anything written.
func (s *Session) open(ctx context.Context, packed string) error {
	from, err := unpack(contextVariable, packed)
	if err != nil {
		return err
	}
	packed, ok := s.config.lookup(messagesVariable)
	if !ok {
		return fmt.Errorf("pipes: %s is set, but %s is not", contextVariable, messagesVariable)
	}
	to, err := unpack(messagesVariable, packed)
	if err != nil {
		return err
	}
	if s.include, err = to.flag("include_stdio_in_messages"); err != nil {
		return fmt.Errorf("pipes: %w", err)
	}
	if s.Context, err = loadContext(ctx, from, s.config.Context); err != nil {
		return err
	}
	if s.out, err = s.config.open(ctx, to); err != nil {
		return fmt.Errorf("pipes: %w", err)
	}
	switch out := s.out.(type) {
	case *standard:
		s.shared = out
	case *buffered:
		s.shared = out.to
	}
	return s.send("opened", object{{"extras", object{}}})
}

// Launched reports whether anybody listens.
func (s *Session) Launched() bool { return s.out != nil }

// ForwardsStdio reports whether the writers of [Session.Stream] do more than write:
// what goes to the standard streams is to be sent as messages, too, or the
// messages themselves go there.
func (s *Session) ForwardsStdio() bool { return s.include || s.shared != nil }

// send writes a message. It returns an error if the message can't be made or
// the session is closed, but not if it can't be written.
func (s *Session) send(method string, params any) error {
	line, err := message(method, params)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(line)
}

// write hands a line to the sink. The caller holds s.mu.
func (s *Session) write(line []byte) error {
	switch {
	case s.closed:
		return ErrClosed
	case s.out != nil:
		s.warn(s.out.write(line))
	}
	return nil
}

// warn tells once that messages are lost. The caller holds s.mu.
func (s *Session) warn(err error) {
	if err != nil && !s.warned {
		s.warned = true
		fmt.Fprintf(s.config.stderr(), "pipes: messages to Dagster are lost: %s\n", redact.String(text(err)))
	}
}
