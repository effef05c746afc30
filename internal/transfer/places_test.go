package transfer_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// A narrow Getter serves one body at a time: other requests wait until it is closed.
type narrow struct {
	transfer.Getter

	place chan struct{}
}

func (n *narrow) Get(ctx context.Context, r transfer.Range, of *transfer.Version) (*transfer.Response, error) {
	n.place <- struct{}{}
	res, err := n.Getter.Get(ctx, r, of)
	if err != nil {
		<-n.place
		return nil, err
	}
	res.Body = &placed{ReadCloser: res.Body, place: n.place}
	return res, nil
}

type placed struct {
	io.ReadCloser

	place  chan struct{}
	closed atomic.Bool
}

func (p *placed) Close() error {
	if !p.closed.Swap(true) {
		<-p.place
	}
	return p.ReadCloser.Close()
}

// A first response that was no longer read used to stay open until the end: a Getter that serves one body at a time
// waited for ever.
func TestFetchFromWhatServesOneBodyAtATime(t *testing.T) {
	b := content(1, 5<<20)
	for _, parallel := range []int{1, 2, 8} {
		synctest.Test(t, func(t *testing.T) {
			m := &memory{content: b, version: transfer.Version{ETag: `"a"`, Size: int64(len(b))}, ranges: true}
			dir := t.TempDir()
			f := create(t, dir, transfer.Options{Source: "s", Piece: 256 << 10, Parallel: parallel})
			if err := f.Fetch(t.Context(), &narrow{m, make(chan struct{}, 1)}); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Commit(); err != nil {
				t.Fatal(err)
			}
			f.Close()
			only(t, dir, b)
		})
	}
}

// A fickle Getter announces support for ranges, but sends the whole resource for the last one, once all other bytes
// have been read.
type fickle struct {
	memory

	others  atomic.Int64 // bytes to be read before
	arrived chan struct{}
}

func (f *fickle) Get(ctx context.Context, r transfer.Range, of *transfer.Version) (*transfer.Response, error) {
	if r.To == int64(len(f.content)) {
		<-f.arrived
		r = transfer.Range{From: 0, To: -1}
	}
	res, err := f.memory.Get(ctx, r, of)
	if err == nil {
		res.Body = &counted{ReadCloser: res.Body, of: f}
	}
	return res, err
}

type counted struct {
	io.ReadCloser

	of *fickle
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if left := c.of.others.Add(-int64(n)); left <= 0 && left+int64(n) > 0 {
		close(c.of.arrived)
	}
	return n, err
}

// A range that such a source refuses used to be an error if the first response had passed it.
func TestFetchFromWhatServesRangesAtTimes(t *testing.T) {
	const piece = 64 << 10
	b := content(1, 5<<20)
	f := &fickle{arrived: make(chan struct{})}
	f.others.Store(int64(len(b)) - piece)
	f.memory = memory{content: b, version: transfer.Version{ETag: `"a"`, Size: int64(len(b))}, ranges: true}
	dir := t.TempDir()
	file := create(t, dir, transfer.Options{Source: "s", Piece: piece, Parallel: 4})
	if err := file.Fetch(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Commit(); err != nil {
		t.Fatal(err)
	}
	file.Close()
	only(t, dir, b)
}
