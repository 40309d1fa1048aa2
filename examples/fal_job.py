"""A queued scene with fal's client. Its four hosts are all this server."""

import os
import urllib.request

os.environ.setdefault("FAL_KEY", os.environ.get("CSM_KEY", "none:none"))

import fal_client
import fal_client.client as addresses

server = os.environ.get("CSM_URL", "http://localhost:8000") + "/fal"
addresses.RUN_URL_FORMAT, addresses.QUEUE_URL_FORMAT = f"{server}/run/", f"{server}/queue/"
addresses.REST_URL, addresses.CDN_URL = f"{server}/rest", f"{server}/cdn"

scene = [{"text": "Did you hear that?", "speaker_id": 0}, {"text": "It was the wind.", "speaker_id": 1}]
answer = fal_client.subscribe("fal-ai/csm-1b", {"scene": scene})
urllib.request.urlretrieve(answer["audio"]["url"], "scene.wav")
