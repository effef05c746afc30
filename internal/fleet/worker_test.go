package fleet

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// The calls of all keys used to go in one round trip. With many keys it took so long
// that the server seemed unreachable, and nothing was ever shared.
func TestManyKeysGoInSeveralRoundTrips(t *testing.T) {
	s := Start(Config{
		Quorum: 1, Sync: time.Hour, Stale: 2 * time.Hour,
		Connect: func(context.Context, Member) (Server, error) {
			return nil, errors.New("connection refused")
		},
	})
	defer s.Close()
	hidden := cell.Hide(s.Cells())
	for i := range 2*maxKeys + 1 {
		circuit.New(fmt.Sprint("key-", i), circuit.Config{Store: &hidden})
	}
	seen := map[*key]bool{}
	for _, want := range []int{maxKeys, maxKeys, 1, 0} {
		select {
		case <-s.toSend:
		default:
			if want > 0 {
				t.Errorf("no wake-up for the keys after %d of %d", len(seen), 2*maxKeys+1)
			}
		}
		calls := s.drainAll()
		for _, c := range calls {
			seen[c.key] = true
		}
		if len(calls) != want {
			t.Errorf("after %d keys, %d calls, want %d", len(seen), len(calls), want)
		}
	}
	if len(seen) != 2*maxKeys+1 {
		t.Errorf("%d keys, want %d", len(seen), 2*maxKeys+1)
	}
}
