'use strict';
// Frames cannot be measured from outside; the script put into each says how tall its content is.
addEventListener('message', (event) => {
  const height = event.data && event.data.cellblockHeight;
  if (typeof height !== 'number' || !(height > 0)) return;
  for (const frame of document.querySelectorAll('iframe.output')) {
    if (frame.contentWindow === event.source) frame.style.height = Math.min(height, 4000) + 'px';
  }
});
// Bokeh's library is on the page once, as data; each plot's frame gets it into its own origin.
const bokeh = document.getElementById('bokeh-library');
for (const frame of document.querySelectorAll('iframe[data-document]')) {
  const library = '<' + 'script>' + JSON.parse(bokeh.textContent) + '</' + 'script>';
  frame.srcdoc = frame.dataset.document.replace('<meta name="library">', () => library);
}
// Those that were ready before this script was are asked again.
for (const frame of document.querySelectorAll('iframe.output')) frame.contentWindow.postMessage('height', '*');
for (const figure of document.querySelectorAll('div.plotly')) {
  try {
    const { data, layout } = JSON.parse(figure.querySelector('script').textContent);
    const target = document.createElement('div');
    figure.replaceChildren(target);
    Plotly.newPlot(target, data || [], layout || {}, { responsive: true, displaylogo: false });
  } catch (error) {
    figure.textContent = 'This Plotly figure cannot be drawn: ' + error;
  }
}
