package gate_test

import (
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/gate"
)

// probe returns how long after now the next probe is admitted.
func (k *key) probe(t *testing.T) int64 {
	t.Helper()
	for d := int64(0); d <= int64(3*time.Second); d += ms {
		g := copied(k.Gate)
		if g.Rare = k.Rare; admits(g, k.now+d) {
			return d
		}
	}
	t.Fatal("no probe in three seconds")
	return 0
}

func admits(g gate.Gate, now int64) bool { _, ok := g.Admit(now); return ok }

// If another host sends the probes, those of this host are due a quarter as often, at
// least every two and a half seconds, and only while the gate is shut.
func TestProbesAreRareWhereAnotherHostSendsThem(t *testing.T) {
	k := warm(t)
	for range 10 {
		k.call(t, gate.Failure, ms)
	}
	if !k.Shut() {
		t.Fatal("ten failures have not shut it")
	}
	alone := k.probe(t)
	k.Rare = true
	if rare := k.probe(t); rare < 3*alone || rare > 2500*ms {
		t.Errorf("a probe is due after %d ms, and if another host sends them after %d", alone/ms, rare/ms)
	}
	k.now += 2500 * ms
	if k.call(t, gate.Success, ms); k.Shut() {
		t.Fatal("after a success it is shut")
	}
	rare := k.probe(t)
	if k.Rare = false; k.probe(t) != rare {
		t.Error("probes are rare while attempts succeed")
	}
}

// Hosts that have all waited for another host's response probe one after the other
// when it has come, and soon.
func TestHostsDoNotProbeAtOnceAfterAResponseElsewhere(t *testing.T) {
	const n = 40
	early, all := 0, map[int64]int{}
	for i := range n {
		k := limited(t)
		k.now += 4000 * ms // it waits for another one's probes
		k.Rare = true
		k.Hasten(k.now, (float64(i)+0.5)/n)
		k.Rare = false
		d := k.probe(t)
		if all[d/(50*ms)]++; d < 100*ms {
			early++
		}
		k.Hasten(k.now, 0.99) // more news makes nothing later that is not overdue
		if again := k.probe(t); d > 0 && again > d {
			t.Errorf("host %d would have probed after %d ms, and after %d since it had the news twice", i, d/ms, again/ms)
		}
	}
	for at, hosts := range all {
		if hosts > n/3 || at*50 > 2500 {
			t.Errorf("%d of %d hosts probe after %d ms", hosts, n, at*50)
		}
	}
	if early == 0 {
		t.Error("no host probes within 100 ms")
	}
}

// Trouble on other hosts limits a new gate at once, and a gate in health at its second
// failure in a row.
func TestTroubleElsewhereWarns(t *testing.T) {
	fresh := gate.Gate{Words: new(gate.Words)}
	if fresh.Warn(start) != gate.Limited || !fresh.Shut() {
		t.Error("a gate of which nothing is known is not limited")
	}
	if fresh.Warn(start) != gate.Unchanged {
		t.Error("the same news limits it twice")
	}
	for name, outcomes := range map[string][]gate.Outcome{
		"failures":  {gate.Success, gate.Failure, gate.Success, gate.Failure, gate.Failure},
		"overloads": {gate.Throttled, gate.Success, gate.Throttled, gate.Throttled},
	} {
		k := warm(t)
		for i, o := range outcomes {
			if i > 0 && outcomes[i-1] == gate.Success || i == 0 {
				k.Warn(k.now)
			}
			if change := k.call(t, o, base); (change == gate.Limited) != (i == len(outcomes)-1) {
				t.Errorf("%s: after outcome %d the change is %v", name, i, change)
			}
		}
	}
}
