package download

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/digest"
)

// An output is where a download goes, with the account of what has come.
type output struct {
	dst     io.WriterAt
	options FetchOptions

	mu      sync.Mutex
	state   *State // mu guards its Done; the rest stays while there are several goroutines
	unsaved int64  // bytes since the last checkpoint; guarded by mu
}

// write writes the body to its place, and no more than r has; r.To is -1 for all there is.
func (o *output) write(body io.Reader, r Range) (int64, error) {
	buffer := make([]byte, 64<<10)
	at := r.From
	for r.To < 0 || at < r.To {
		want := buffer
		if r.To >= 0 {
			want = buffer[:min(int64(len(buffer)), r.To-at)]
		}
		n, err := body.Read(want)
		if n > 0 {
			if _, err := o.dst.WriteAt(want[:n], at); err != nil {
				return at - r.From, err
			}
			o.note(Range{at, at + int64(n)}, at+int64(n) == r.To)
			at += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF) && r.To >= 0 && at < r.To:
			return at - r.From, io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF):
			return at - r.From, nil
		case err != nil:
			return at - r.From, err
		}
	}
	return at - r.From, nil
}

// note adds what was written to the state.
func (o *output) note(r Range, end bool) {
	if o.options.Progress != nil {
		o.options.Progress(r.To - r.From)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.state.add(r)
	o.unsaved += r.To - r.From
	if o.options.Checkpoint == nil || !end && o.unsaved < o.options.PartSize {
		return
	}
	o.unsaved = 0
	saved := *o.state
	saved.Done = append([]Range(nil), saved.Done...)
	o.options.Checkpoint(saved)
}

// verify reads dst again if there is a digest to compare it with.
func (o *output) verify() error {
	check := digest.For(o.state.Digests, true)
	written, ok := o.dst.(io.ReaderAt)
	if check == nil || !ok {
		return nil
	}
	if _, err := io.Copy(check, io.NewSectionReader(written, 0, o.state.Size)); err != nil {
		return err
	}
	if got := check.Sum(nil); !bytes.Equal(got, check.Want) {
		return &httpretry.DigestError{Header: check.Header, Algorithm: check.Algorithm, Want: check.Want, Got: got}
	}
	return nil
}
