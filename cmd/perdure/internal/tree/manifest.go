package tree

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/internal/spool"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// A Manifest lists the outcome of many files. A manifest in a file replaces the file when the copy has ended; a manifest to a
// stream, a pipe or a device is written line by line. It is not safe for concurrent use.
type Manifest struct {
	ctx    context.Context //nolint:containedctx // of one copy
	path   string          // for errors
	stream *os.File        // nil if the manifest is a file
	ours   bool            // End closes stream
	end    string          // path of the file, without links
	draft  *transfer.File  // replaces the file; nil if no file can be created in its directory
	spare  *os.File        // temporary file in place of draft
	err    error           // of the first line that could not be written
}

// Stream returns a manifest that is written to an open file.
func Stream(ctx context.Context, f *os.File) *Manifest {
	return &Manifest{ctx: ctx, path: "the manifest", stream: f}
}

// NewManifest returns a manifest in the file at path. It returns an error if the file cannot be written.
func NewManifest(ctx context.Context, path string) (*Manifest, error) {
	m := &Manifest{ctx: ctx, path: path}
	var err error
	if m.stream, err = endpoint.OpenSink(ctx, path); m.stream != nil || err != nil {
		m.ours = true
		return m, m.explained(err)
	}
	m.end = endpoint.Resolve(path)
	m.draft, err = endpoint.CreateFile(m.end, transfer.Options{NoResume: true})
	if errors.Is(err, transfer.ErrInPlace) {
		if _, missing := os.Stat(m.end); missing == nil {
			m.spare, err = spool.Temporary()
		}
	}
	if err != nil {
		return nil, m.explained(endpoint.Denied(err))
	}
	return m, nil
}

// Write writes a line. End returns its error, too.
func (m *Manifest) Write(line []byte) (n int, err error) {
	switch {
	case m.err != nil:
		return 0, m.err
	case m.stream != nil:
		n, err = m.send(line)
	case m.spare != nil:
		n, err = m.spare.Write(line)
	default:
		n, err = m.draft.Write(line)
	}
	m.err = err
	return n, err
}

// grace is how long the reader of a stream has to read a line after the copy was stopped.
const grace = 2 * time.Second

// send writes to a stream, whose reader may be slow.
func (m *Manifest) send(line []byte) (int, error) {
	late, cancel := context.WithCancelCause(context.WithoutCancel(m.ctx))
	defer cancel(nil)
	stop := context.AfterFunc(m.ctx, func() {
		time.AfterFunc(grace, func() { cancel(context.Cause(m.ctx)) })
	})
	defer stop()
	return endpoint.Await(late, func() (int, error) { return m.stream.Write(line) })
}

// End replaces the file if complete is set, and leaves it unchanged otherwise. It returns the first error of the manifest.
func (m *Manifest) End(complete bool) error {
	switch {
	case m == nil:
		return nil
	case m.stream != nil:
		if m.ours {
			m.err = errors.Join(m.err, m.stream.Close())
		}
		return m.explained(m.err)
	}
	defer m.close()
	if complete && m.err == nil {
		m.err = m.install()
	}
	return m.explained(m.err)
}

func (m *Manifest) close() {
	if m.draft != nil {
		m.draft.Close()
	}
	if m.spare != nil {
		_ = spool.Discard(m.spare)
	}
}

// install replaces the file, or writes to it if it cannot be replaced.
func (m *Manifest) install() error {
	if m.spare != nil {
		return m.overwrite(io.NewSectionReader(m.spare, 0, 1<<62))
	}
	_, err := m.draft.Commit()
	if errors.Is(err, transfer.ErrInPlace) { // the file is a mount point
		return m.overwrite(m.draft.Content())
	}
	return err
}

// overwrite writes to the existing file.
func (m *Manifest) overwrite(in io.Reader) error {
	out, err := os.OpenFile(m.end, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

func (m *Manifest) explained(err error) error {
	if err == nil {
		return nil
	}
	return endpoint.Explain("write", m.path, err)
}
