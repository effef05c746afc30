// Returns what is wrong with the page as it is shown now, as a list of texts.
(() => {
  const wrong = []
  const colour = text => (text.match(/[\d.]+/g) || []).map(Number)
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    return 0.2126 * x + 0.7152 * y + 0.0722 * z
  }
  const contrast = (a, b) => {
    const [x, y] = [light(colour(a)), light(colour(b))].sort((p, q) => q - p)
    return (x + 0.05) / (y + 0.05)
  }
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor
      if (colour(c)[3] !== 0) return c
    }
    return 'rgb(255, 255, 255)'
  }
  if (document.documentElement.scrollWidth > innerWidth) {
    wrong.push(`overflow: ${document.documentElement.scrollWidth} px of ${innerWidth}`)
  }
  for (const e of document.querySelectorAll('body *')) {
    const text = [...e.childNodes].filter(n => n.nodeType === Node.TEXT_NODE).map(n => n.data.trim()).join('')
    const box = e.getBoundingClientRect()
    if (!text || !box.width || ['title', 'desc'].includes(e.tagName)) continue
    const style = getComputedStyle(e), svg = e.ownerSVGElement
    const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1
    if (parseFloat(style.fontSize) * scale < 12) wrong.push(`small: ${style.fontSize} times ${scale} for "${text}"`)
    const backs = [behind(e)]
    if (svg && svg.querySelector('.band')) backs.push(getComputedStyle(svg.querySelector('.band')).fill)
    for (const back of backs) {
      const c = contrast(svg ? style.fill : style.color, back)
      if (c < 4.5) wrong.push(`contrast: ${c.toFixed(1)} for "${text}" on ${back}`)
    }
  }
  if (matchMedia('print').matches) {
    for (const e of document.querySelectorAll('body *')) {
      if (getComputedStyle(e).overflowX !== 'visible' && e.scrollWidth > e.clientWidth) wrong.push(`cut on paper: "${e.textContent.slice(0, 60)}"`)
    }
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), range = document.createRange()
  for (let n = texts.nextNode(); n; n = texts.nextNode()) {
    if (n.parentElement.closest('pre')) continue
    for (const flag of n.data.matchAll(/(?<![^\s(])(--[\w-]*|-[A-Za-z][\w-]*)/g)) {
      range.setStart(n, flag.index)
      range.setEnd(n, flag.index + flag[0].length)
      if (new Set([...range.getClientRects()].map(r => r.top)).size > 1) wrong.push(`broken over two lines: "${flag[0]}"`)
    }
  }
  for (const line of document.querySelectorAll('svg .line')) {
    const c = contrast(getComputedStyle(line).stroke, behind(line))
    if (c < 3) wrong.push(`contrast: ${c.toFixed(1)} for a line of ${line.getAttribute('class')}`)
  }
  for (const svg of document.querySelectorAll('svg')) {
    const name = svg.getAttribute('aria-label')
    if (svg.getAttribute('role') !== 'img' || !name) wrong.push('a picture without a name')
    const size = svg.viewBox.baseVal, boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBBox()])
    boxes.forEach(([text, b], i) => {
      if (b.x < 0 || b.y < 0 || b.x + b.width > size.width + 0.5 || b.y + b.height > size.height) wrong.push(`cut: "${text}" in ${name}`)
      for (const [other, o] of boxes.slice(0, i)) {
        if (b.x < o.x + o.width && o.x < b.x + b.width && b.y + 3 < o.y + o.height && o.y + 3 < b.y + b.height) {
          wrong.push(`overlap: "${text}" and "${other}" in ${name}`)
        }
      }
    })
  }
  if (document.querySelectorAll('th:not([scope])').length) wrong.push('a heading of a table without a scope')
  if (document.scripts.length) wrong.push('a script')
  return wrong
})()
