package tree

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/internal/spool"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// A Manifest is a list of what became of many files. As a file it is there whole, when the copy has ended, or is as it was;
// to a stream, a pipe or a device its lines go as they come. It is not safe for concurrent use.
type Manifest struct {
	ctx    context.Context //nolint:containedctx // of one copy
	path   string          // as errors name it
	stream *os.File        // that is written to; nil: it is a file
	ours   bool            // stream was opened here
	dir    *transfer.Dir   // of the file
	name   string          // in dir
	draft  *transfer.File  // of the file; nil: its directory takes no other file
	spare  *os.File        // the draft elsewhere, then
	err    error           // of the first line that could not be written
}

// Stream returns a manifest that goes to an open file.
func Stream(ctx context.Context, f *os.File) *Manifest {
	return &Manifest{ctx: ctx, path: "the manifest", stream: f}
}

// NewManifest returns one for the file of that path. What can't be written is known before anything is copied.
func NewManifest(ctx context.Context, path string) (*Manifest, error) {
	m := &Manifest{ctx: ctx, path: path}
	var err error
	if m.stream, err = endpoint.OpenSink(ctx, path); m.stream != nil || err != nil {
		m.ours = true
		return m, m.explained(err)
	}
	end := endpoint.Resolve(path)
	if m.dir, err = endpoint.OpenDir(end); err != nil {
		return nil, m.explained(err)
	}
	m.name = filepath.Base(end)
	m.draft, err = m.dir.Create(m.name, transfer.Options{NoResume: true})
	if errors.Is(err, transfer.ErrInPlace) {
		if _, missing := os.Stat(end); missing == nil {
			m.spare, err = spool.Temporary()
		}
	}
	if err != nil {
		_ = m.dir.Close()
		return nil, m.explained(endpoint.Denied(err))
	}
	return m, nil
}

// Write writes a line. Its error comes from End as well.
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

// grace is how long the reader of a stream has, once the copy has been stopped, to take a line.
const grace = 2 * time.Second

// send writes to a stream, whose reader may take its time.
func (m *Manifest) send(line []byte) (int, error) {
	late, cancel := context.WithCancelCause(context.WithoutCancel(m.ctx))
	defer cancel(nil)
	stop := context.AfterFunc(m.ctx, func() {
		time.AfterFunc(grace, func() { cancel(context.Cause(m.ctx)) })
	})
	defer stop()
	return endpoint.Await(late, func() (int, error) { return m.stream.Write(line) })
}

// End makes the file that it is if there is something to tell, which may be that there were no files, and leaves it as it
// was otherwise.
func (m *Manifest) End(told bool) error {
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
	if told && m.err == nil {
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
	_ = m.dir.Close()
}

// install makes the draft the file, or else what is in it.
func (m *Manifest) install() error {
	if m.spare != nil {
		return m.overwrite(io.NewSectionReader(m.spare, 0, 1<<62))
	}
	_, err := m.draft.Commit()
	if errors.Is(err, transfer.ErrInPlace) { // it is mounted by itself
		return m.overwrite(m.draft.Content())
	}
	return err
}

// overwrite writes to the file that is there.
func (m *Manifest) overwrite(in io.Reader) error {
	out, err := os.OpenFile(filepath.Join(m.dir.Path(), m.name), os.O_WRONLY|os.O_TRUNC, 0)
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
