package endpoint

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// A bandwidth limits how many bytes all bodies of a session together move in a second. The zero bandwidth has no limit.
//
// Bytes are counted where this process asks for them, above the guards against stalls: the time that a body waits for its turn
// is not time in which it delivers nothing.
type bandwidth struct {
	mu   sync.Mutex
	next time.Time // when the bytes counted so far have passed
}

// ahead is how long before their time bytes may pass after a pause, so that a late timer does not make the copy slower.
const ahead = 100 * time.Millisecond

// wait counts n bytes, and returns when they have passed at rate bytes per second. If ctx ends first, it returns its cause.
func (b *bandwidth) wait(ctx context.Context, n int, rate float64) error {
	b.mu.Lock()
	now := time.Now()
	if earliest := now.Add(-ahead); b.next.Before(earliest) {
		b.next = earliest
	}
	b.next = b.next.Add(time.Duration(float64(n) / rate * float64(time.Second)))
	left := b.next.Sub(now)
	b.mu.Unlock()
	if left <= 0 {
		return nil
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A paced body is one whose bytes count for the bandwidth of a session.
type paced struct {
	io.ReadCloser
	ctx     context.Context //nolint:containedctx // of one request
	session *Session
}

// Read reads what passes in a twentieth of a second, and waits until it has passed.
func (p *paced) Read(b []byte) (int, error) {
	rate := p.session.Bandwidth
	if most := max(rate/20, 1); float64(len(b)) > most {
		b = b[:int(most)]
	}
	n, err := p.ReadCloser.Read(b)
	if n == 0 {
		return n, err
	}
	return n, cmp.Or(p.session.bandwidth.wait(p.ctx, n, rate), err)
}

// pace returns body with the bandwidth of the session.
func (s *Session) pace(ctx context.Context, body io.ReadCloser) io.ReadCloser {
	if s.Bandwidth == 0 || body == nil || body == http.NoBody {
		return body
	}
	return &paced{body, ctx, s}
}

// paceInput is pace for an opened source.
func (s *Session) paceInput(ctx context.Context, in *Input, err error) (*Input, error) {
	if err == nil {
		in.ReadCloser = s.pace(ctx, in.ReadCloser)
	}
	return in, err
}

// Paced returns g with the bandwidth of the session.
func (s *Session) Paced(g transfer.Getter) transfer.Getter {
	if s.Bandwidth == 0 {
		return g
	}
	return pacedGetter{g, s}
}

type pacedGetter struct {
	transfer.Getter
	session *Session
}

func (g pacedGetter) Get(ctx context.Context, r transfer.Range, of *transfer.Version) (*transfer.Response, error) {
	res, err := g.Getter.Get(ctx, r, of)
	if err == nil {
		res.Body = g.session.pace(ctx, res.Body)
	}
	return res, err
}
