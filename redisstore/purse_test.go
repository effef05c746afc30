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

// The twin of the script answers as the script does.
func TestPurseTwin(t *testing.T) {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{startRedis(t)}, ForceSingleClient: true, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	first := testseed.Of(t, 0)
	for seed := first; seed < first+20; seed++ {
		l := &link{client, "purse:" + strconv.FormatUint(seed, 10), fleet.Member{Process: "p", Node: "n", Alive: time.Hour}, nil}
		u, bank, ceiling := rand.New(rand.NewPCG(seed, 0)), twin.Bank{Grain: 1}, int64(20+seed*17)
		for n := range 200 {
			i := u.IntN(2)
			if u.IntN(10) == 0 {
				bank.Live[i], bank.Limit[i] = false, 0
				client.Do(t.Context(), client.B().Hset().Key(l.prefix).FieldValue().FieldValue("format", format).FieldValue("share."+string('a'+rune(i)), "0 0").Build())
			}
			v := twin.Visit{
				Holds: u.Int64N(ceiling), Given: u.Int64N(ceiling), Need: []int64{0, cell.Token}[u.IntN(2)],
				How: []string{"", "", "", fleet.FirstVisit, fleet.LastVisit}[u.IntN(5)],
			}
			v.May = v.Holds + u.Int64N(ceiling)
			answer := l.Run(t.Context(), []fleet.Call{{Op: fleet.Visit, Budget: fleet.Deposit{
				Cell: string('a' + rune(i)), Holds: v.Holds, May: v.May, Given: v.Given, Ceiling: ceiling, Need: v.Need, How: v.How,
			}}})[0]
			if want := fleet.Loan(bank.Visit(i, v, ceiling)); answer.Err != nil || answer.View.Loan != want {
				t.Fatalf("seed %d, visit %d, %+v: the script answers %+v, the twin %+v; %v", seed, n, v, answer.View.Loan, want, answer.Err)
			}
		}
	}
}
