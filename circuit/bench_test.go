package circuit

import (
	"testing"
	"time"
)

func BenchmarkAcquire(b *testing.B) {
	for name, c := range map[string]Config{"plain": {}, "budget": {Budget: 10}, "window": {Window: 10 * time.Second, FailureRatio: .5}} {
		b.Run(name, func(b *testing.B) {
			br := New("x", c)
			b.ReportAllocs()
			for b.Loop() {
				p, err := br.Acquire()
				if err != nil {
					b.Fatal(err)
				}
				p.Success()
			}
		})
	}
}
