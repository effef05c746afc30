//go:build unix

package hoststore

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// The layout of the file, and every word other than 0 that four breakers write to it at
// the instant at which the clock of testing/synctest begins.
const layout = `version 3: cells.3, 3146240 bytes
header "perdure\n" 3 4096 768 512
slot: 768 bytes at 512
   0 cell   512
 512 hash     8
 520 length   8
 528 name   240
a key of 300 bytes is kept as xxx...xxx#e78ddf9f1ba85555
asked, slot 803, hash fb0ab6bc4db98323
    0 001402bc6b069a80
   16 c6acfac00036ee80
   88 0d234ccf52430000
   96 0900000050000000
  448 0000000000000001
  464 f2dcb330adbd0000
isolated, slot 834, hash dcbc48dde2aa1342
    0 001c000000000000
   88 0d234ccf52430000
   96 0700000000000000
  112 00000371ab3eb003
fails, slot 2746, hash 995a7dc13142baba
    0 0000002000000004
    8 0000000000040000
   16 c6acfac00000ea60
probed, slot 3887, hash 96df35e666244f2f
    0 0028022c6ad02900
    8 0000000000040000
   88 0d234ccfc9789400
   96 0500000000000000
  104 0002000000000000
  112 00000371ab3eb001
  304 0000000000007530
  384 0000000000000001
  392 0000000000000001
  448 0000000000000001
  456 0000000000000003
  464 000000003b9aca00
`

func TestLayout(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { fill(t, dir) })
	path := (&Store{dir: dir}).Path()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "version %d: %s, %d bytes\nheader %q", cell.Version, fileName(cell.Version), len(content), content[:8])
	for i := 8; i < 24; i += 4 {
		fmt.Fprintf(&b, " %d", binary.NativeEndian.Uint32(content[i:]))
	}
	is := reflect.TypeFor[slot]()
	fmt.Fprintf(&b, "\nslot: %d bytes at %d\n", is.Size(), headerSize)
	for f := range is.Fields() {
		fmt.Fprintf(&b, "%4d %-6s %3d\n", f.Offset, f.Name, f.Type.Size())
	}
	long, _ := inSlot(strings.Repeat("x", 300))
	fmt.Fprintf(&b, "a key of 300 bytes is kept as %s...%s\n", long[:3], long[len(long)-20:])
	for i := range slots {
		writeSlot(&b, i, content[headerSize+i*slotSize:][:slotSize])
	}
	if got := b.String(); got != layout {
		t.Errorf("the layout of the file has changed: raise the version (cell.Version), or processes of two releases misread each other's files. "+
			"It is now\n%s", got)
	}
}

// fill makes four breakers in dir and uses them.
func fill(t *testing.T, dir string) {
	t.Helper()
	store := Open(dir)
	defer store.Close()
	breaker := func(name string) *circuit.Breaker {
		return circuit.New(name, circuit.Config{
			Store: store, RecoveryTimeout: time.Second, SuccessThreshold: 2, HalfOpenMax: 2, Budget: 10, Observe: func(context.Context, circuit.Transition) {},
		})
	}
	fails := breaker("fails")
	fails.RecordSuccess()
	fails.RecordFailure()
	fails.RecordFailure()
	if p, err := fails.Acquire(); err == nil {
		p.Throttled(time.Minute)
	}
	asked := breaker("asked")
	for range 5 {
		if p, err := asked.Acquire(); err == nil {
			p.Throttled(time.Hour)
		}
	}
	breaker("isolated").Isolate()
	probed := breaker("probed")
	probed.Trip()
	probed.Allow() // refused
	<-time.After(2 * time.Second)
	for range 2 {
		if p, err := probed.Acquire(); err != nil || !p.Probe() {
			t.Errorf("no probe: %v", err)
		} else if probed.Metrics().Probes == 1 {
			p.Success()
		}
	}
	probed.Allow()
}

// writeSlot writes the name in a slot and the words of its cell that are not 0.
func writeSlot(b *strings.Builder, at int, slot []byte) {
	n := binary.NativeEndian.Uint64(slot[520:])
	if n == 0 {
		return
	}
	fmt.Fprintf(b, "%s, slot %d, hash %016x\n", slot[528:528+n], at, binary.NativeEndian.Uint64(slot[512:]))
	for i := 0; i < 512; i += 8 {
		if w := binary.NativeEndian.Uint64(slot[i:]); w != 0 {
			if i == 104 { // of the process that sends the probe
				w -= uint64(os.Getpid())
			}
			fmt.Fprintf(b, "%5d %016x\n", i, w)
		}
	}
}
