package demo

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// The size of the data.
const (
	pages     = 12
	perPage   = 40
	districts = 10
)

// A station is a bike rental station.
type station struct {
	ID       int     `json:"id"`
	Name     string  `json:"name"`
	District int     `json:"district"` // 1 to districts
	Lat      float64 `json:"lat"`
	Lon      float64 `json:"lon"`
	Docks    int     `json:"docks"`
	Bikes    int     `json:"bikes"`
}

// A page is one response of the API.
type page struct {
	Page     int       `json:"page"`
	Pages    int       `json:"pages"`
	Stations []station `json:"stations"`
	Next     string    `json:"next,omitempty"` // path of the next page; "" on the last
}

// A city is all stations that a seed generates, by page.
type city struct {
	pages []page
}

func newCity(random *rand.Rand) city {
	streets := []string{"Harbour", "Mill", "Station", "Orchard", "Museum", "Chapel", "Bridge", "Market", "Lindens", "River", "Tower", "Park"}
	kinds := []string{"Street", "Square", "Quay", "Gate", "Road", "Steps", "Bridge", "Corner"}
	c := city{pages: make([]page, pages)}
	for p := range c.pages {
		c.pages[p] = page{Page: p + 1, Pages: pages}
		if p+1 < pages {
			c.pages[p].Next = pagePath(p + 2)
		}
		for i := range perPage {
			docks := 11 + 2*random.IntN(12)
			c.pages[p].Stations = append(c.pages[p].Stations, station{
				ID:       31000 + p*perPage + i,
				Name:     fmt.Sprintf("%s %s %d", streets[random.IntN(len(streets))], kinds[random.IntN(len(kinds))], 1+random.IntN(60)),
				District: 1 + random.IntN(districts),
				Lat:      coordinate(38.8, random), Lon: coordinate(-77.1, random),
				Docks: docks, Bikes: random.IntN(docks + 1),
			})
		}
	}
	return c
}

// coordinate returns a random coordinate from from to from+0.2 degrees, rounded to a metre.
func coordinate(from float64, random *rand.Rand) float64 {
	exact, _ := strconv.ParseFloat(strconv.FormatFloat(from+random.Float64()/5, 'f', 5, 64), 64)
	return exact
}

func pagePath(n int) string { return "/stations?page=" + strconv.Itoa(n) }

// encoded returns page n, from 1, as the API sends it.
func (c city) encoded(n int) []byte {
	body, err := json.MarshalIndent(c.pages[n-1], "", " ")
	if err != nil {
		panic(err) // numbers and names cannot fail
	}
	return append(body, '\n')
}

// stations returns the stations of all pages.
func (c city) stations() []station {
	var all []station
	for _, p := range c.pages {
		all = append(all, p.Stations...)
	}
	return all
}

// table returns the stations of one district as CSV.
func table(all []station, district int) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	write := func(fields ...string) { _ = w.Write(fields) } // writes to memory
	write("id", "name", "lat", "lon", "docks", "bikes")
	for _, s := range all {
		if s.District == district {
			write(strconv.Itoa(s.ID), s.Name, degrees(s.Lat), degrees(s.Lon), strconv.Itoa(s.Docks), strconv.Itoa(s.Bikes))
		}
	}
	w.Flush()
	return b.Bytes()
}

func degrees(x float64) string { return strconv.FormatFloat(x, 'f', 5, 64) }
