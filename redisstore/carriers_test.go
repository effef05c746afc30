package redisstore

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/fleet"
	"github.com/seed-0f2c7998/perdure/internal/fleet/memory"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// A real server, and the one in memory with which the fleet's protocol is tested, return
// the same responses, whatever three processes on two nodes request.
func TestCarriersAgree(t *testing.T) {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{startRedis(t)}, ForceSingleClient: true, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	first := testseed.Of(t, 0)
	for seed := first; seed < first+20; seed++ {
		u := rand.New(rand.NewPCG(seed, 0))
		var twin memory.Server
		var onServer, inMemory []fleet.Server
		for i, node := range []string{"a", "a", "b"} {
			m := fleet.Member{Process: "p" + strconv.Itoa(i), Node: node, Alive: time.Hour}
			c, _ := twin.Connect(t.Context(), m)
			onServer = append(onServer, &link{client, "carriers:" + strconv.FormatUint(seed, 10) + ":", m, nil})
			inMemory = append(inMemory, c)
		}
		var last [2]fleet.View
		for n := range 150 {
			i, calls := u.IntN(len(onServer)), chooseCall(u)
			var seen [2]fleet.View
			for j, s := range []fleet.Server{onServer[i], inMemory[i]} {
				c := calls
				if c.Op == fleet.Restore {
					c.Epoch = map[bool]string{true: last[j].Epoch, false: "another"}[c.Epoch == "its own"]
				}
				if c.Op == fleet.Settle || c.Op == fleet.Release || c.Op == fleet.Restore {
					c.Token, c.Gen = c.Token+last[j].Gen, c.Gen+last[j].Gen
				}
				r := s.Run(t.Context(), []fleet.Call{c})[0]
				if r.Err != nil {
					t.Fatalf("seed %d, call %d, %+v: %v", seed, n, c, r.Err)
				}
				last[j], seen[j] = r.View, without(r.View)
			}
			if seen[0] != seen[1] {
				t.Fatalf("seed %d, call %d by process %d, %+v:\nthe server %+v\nin memory  %+v", seed, n, i, calls, seen[0], seen[1])
			}
		}
	}
}

// without returns v without what depends on the instant of the call.
func without(v fleet.View) fleet.View {
	v.Epoch, v.Ago = "", 0
	v.Rate.From = v.Rate.From.Round(time.Minute)
	v.Open, v.Lease = v.Open.Round(time.Hour), v.Lease.Round(time.Hour)
	if v.Override != "" {
		v.Override = "something"
	}
	return v
}

// chooseCall returns a random call. Its Token and Gen are relative to the current
// generation, 0 for it.
func chooseCall(u *rand.Rand) fleet.Call {
	some := func() time.Duration { return time.Duration(u.IntN(2)) * time.Hour }
	c := fleet.Call{Op: fleet.Op(u.IntN(9)), Key: "x", Reason: strconv.Itoa(u.IntN(5))}
	switch c.Op {
	case fleet.Trip:
		c.State, c.Open, c.Quorum, c.Gate = circuit.Open, some(), 1+u.IntN(3), u.IntN(2) == 0
	case fleet.Lease:
		c.Lease = fleet.LeaseRequest{Length: some(), Used: u.IntN(2) == 0, Idle: some(), Yield: some()}
	case fleet.Settle:
		c.Token, c.State, c.Open = -int64(u.IntN(4)/3), []circuit.State{circuit.Closed, circuit.Open}[u.IntN(2)], some()
		c.Gate = c.State == circuit.Closed && u.IntN(2) == 0
	case fleet.Release:
		c.Token = -int64(u.IntN(2))
	case fleet.Override:
		c.State, c.Open = []circuit.State{circuit.Closed, circuit.Open, circuit.Isolated}[u.IntN(3)], some()
		c.Ago = time.Duration(u.IntN(2)) * 10 * time.Second * time.Duration(1+u.Int64N(1<<20))
	case fleet.Restore:
		c.Epoch, c.Gen, c.Open = []string{"its own", "another"}[u.IntN(2)], int64(u.IntN(4)-2), some()
		c.State = []circuit.State{circuit.Open, circuit.Isolated}[u.IntN(2)]
		c.Manual = u.IntN(2) == 0
		c.Ago = 10 * time.Second * time.Duration(1+u.Int64N(1<<20))
	case fleet.Read:
	case fleet.Reserve:
		c.Rate = fleet.RateRequest{
			Interval: time.Duration(1+u.IntN(2)) * time.Hour, Burst: 1 + u.IntN(3), Count: u.IntN(4), Until: time.Duration(u.IntN(8)) * 30 * time.Minute,
		}
	case fleet.ShareBudget:
		balance := u.Int64N(100)
		c.Budget = fleet.BudgetRequest{
			Cell: string('a' + rune(u.IntN(3))), Balance: balance, Limit: balance + u.Int64N(100), Returned: u.Int64N(50), Ceiling: 200,
			Need: []int64{0, cell.Token}[u.IntN(2)], Phase: []string{"", "", "", fleet.FirstRequest, fleet.LastRequest}[u.IntN(5)],
		}
	}
	return c
}
