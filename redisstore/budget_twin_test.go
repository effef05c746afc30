package redisstore

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/fleet"
	"github.com/seed-0f2c7998/perdure/internal/fleet/twin"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// The twin of budget.lua returns what the script does.
func TestBudgetTwin(t *testing.T) {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{startRedis(t)}, ForceSingleClient: true, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	first := testseed.Of(t, 0)
	for seed := first; seed < first+20; seed++ {
		l := &link{client, "budget:" + strconv.FormatUint(seed, 10), fleet.Member{Process: "p", Node: "n", Alive: time.Hour}, nil}
		u, budget, ceiling := rand.New(rand.NewPCG(seed, 0)), twin.Budget{Unit: 1}, int64(20+seed*17)
		for n := range 200 {
			i := u.IntN(2)
			if u.IntN(10) == 0 {
				budget.Live[i], budget.Limit[i] = false, 0
				client.Do(t.Context(), client.B().Hset().Key(l.prefix).FieldValue().FieldValue("format", format).FieldValue("share."+string('a'+rune(i)), "0 0").Build())
			}
			v := twin.Request{
				Balance: u.Int64N(ceiling), Returned: u.Int64N(ceiling), Need: []int64{0, cell.Token}[u.IntN(2)],
				Phase: []string{"", "", "", fleet.FirstRequest, fleet.LastRequest}[u.IntN(5)],
			}
			v.Limit = v.Balance + u.Int64N(ceiling)
			r := l.Run(t.Context(), []fleet.Call{{Op: fleet.ShareBudget, Budget: fleet.BudgetRequest{
				Cell: string('a' + rune(i)), Balance: v.Balance, Limit: v.Limit, Returned: v.Returned, Ceiling: ceiling, Need: v.Need, Phase: v.Phase,
			}}})[0]
			if want := fleet.BudgetGrant(budget.Share(i, v, ceiling)); r.Err != nil || r.View.Budget != want {
				t.Fatalf("seed %d, request %d, %+v: the script returns %+v, the twin %+v; %v", seed, n, v, r.View.Budget, want, r.Err)
			}
		}
	}
}
