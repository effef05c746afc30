package copying

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/place"
)

// A Manifest is a list of what became of many files. As a file it is there whole,
// when the copy has ended, or is as it was; to a stream, a pipe or a device its
// lines go as they come. It is not safe for concurrent use.
type Manifest struct {
	ctx   context.Context //nolint:containedctx // of one copy
	draft *draft          // of the file; nil: a stream
	out   *os.File        // what is written to; nil: no line has come yet
	ours  bool            // out was opened here
	err   error           // of the first line that could not be written
}

// Stream returns a manifest that goes to an open file.
func Stream(ctx context.Context, f *os.File) *Manifest { return &Manifest{ctx: ctx, out: f} }

// NewManifest returns one for the file of that path. What can't be written is known
// before anything is copied.
func NewManifest(ctx context.Context, path string) (*Manifest, error) {
	c := &copier{Job: &Job{}, to: place.FileAt(path)}
	d, stream, err := c.locate(ctx)
	if err != nil {
		return nil, c.explain("write", c.to, err)
	}
	m := &Manifest{ctx: ctx, out: stream, ours: true}
	if stream != nil {
		return m, nil
	}
	m.draft = d
	if err := m.begin(); err != nil {
		return nil, c.explain("write", c.to, err)
	}
	m.drop() // it may be in the directory that is copied, of which the files are found first
	return m, nil
}

// begin makes the draft. A file that may be written to in a directory that takes
// no other has it elsewhere.
func (m *Manifest) begin() (err error) {
	m.out, err = os.OpenFile(besides(m.draft.path), os.O_RDWR|os.O_CREATE|os.O_EXCL, m.draft.made)
	if err != nil && m.draft.mode != 0 {
		m.out, err = os.CreateTemp("", "perdure-manifest-*.part")
	}
	return err
}

// drop removes the draft.
func (m *Manifest) drop() {
	_ = m.out.Close()
	_ = os.Remove(m.out.Name())
	m.out = nil
}

// Write writes a line. Its error comes from End as well.
func (m *Manifest) Write(line []byte) (n int, err error) {
	switch {
	case m.err != nil:
		return 0, m.err
	case m.draft == nil:
		n, err = m.send(line)
	default:
		if m.out == nil {
			err = m.begin()
		}
		if err == nil {
			n, err = m.out.Write(line)
		}
	}
	m.err = err
	return n, err
}

// grace is how long the reader of a stream has, once the copy has been stopped, to
// take a line.
const grace = 2 * time.Second

// send writes to a stream, whose reader may take its time.
func (m *Manifest) send(line []byte) (int, error) {
	late, cancel := context.WithCancelCause(context.WithoutCancel(m.ctx))
	defer cancel(nil)
	stop := context.AfterFunc(m.ctx, func() {
		time.AfterFunc(grace, func() { cancel(context.Cause(m.ctx)) })
	})
	defer stop()
	return await(late, func() (int, error) { return m.out.Write(line) })
}

// End makes the file that it is if there is something to tell, which may be that
// there were no files, and leaves it as it was otherwise.
func (m *Manifest) End(told bool) error {
	if m == nil {
		return nil
	}
	if m.draft == nil {
		if m.ours {
			m.err = errors.Join(m.err, m.out.Close())
		}
		return m.explained(m.err)
	}
	if told && m.err == nil && m.out == nil {
		m.err = m.begin()
	}
	if m.out == nil {
		return m.explained(m.err)
	}
	if !told || m.err != nil {
		m.drop()
		return m.explained(m.err)
	}
	return m.explained(m.install())
}

// install makes the draft the file.
func (m *Manifest) install() error {
	d := m.draft
	d.file = m.out
	err := d.install(true)
	if _, unnamed := errors.AsType[*os.LinkError](err); unnamed && d.mode != 0 { // it is mounted by itself, or its directory takes no other name
		err = overwrite(d.path, m.out.Name())
	}
	if !d.done {
		_ = os.Remove(m.out.Name())
	}
	return err
}

// overwrite makes the content of a file that of another.
func overwrite(path, with string) error {
	in, err := os.Open(with)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

func (m *Manifest) explained(err error) error {
	switch {
	case err == nil:
		return nil
	case m.draft == nil:
		return Explain("write", "the manifest", err)
	}
	return Explain("write", m.draft.path, err)
}
